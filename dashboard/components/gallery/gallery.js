// Thumbnails cut from one sheet of pictures; a click sends the image's index back.
export default function({ data, parentElement, setTriggerValue }) {
  const grid = parentElement.querySelector('.grid')
  const sheet = `url(data:image/png;base64,${data.sprite})`
  grid.replaceChildren(...data.items.map((item, position) => {
    const button = document.createElement('button')
    button.title = item.alt
    button.dataset.index = item.index
    button.setAttribute('aria-label', `image ${item.index}: ${item.alt}`)
    button.setAttribute('aria-pressed', item.index === data.chosen)
    const thumb = document.createElement('span')
    thumb.className = 'thumb'
    thumb.style.backgroundImage = sheet
    thumb.style.backgroundSize = `${64 * data.columns}px auto`
    thumb.style.backgroundPosition = `-${64 * (position % data.columns)}px -${64 * Math.floor(position / data.columns)}px`
    const caption = document.createElement('span')
    caption.className = 'caption'
    caption.textContent = item.caption
    button.append(thumb, caption)
    button.onclick = () => setTriggerValue('chosen', item.index)
    return button
  }))
}
