// Thumbnails cut from one sheet of pictures. A click, or Enter, opens the lightbox with all of them (see ../lightbox).
// One stop for the Tab key; arrow keys move within. The link at the top of the page leads here.

const THUMB = 64  // CSS pixels a side

function thumbnail(item, position, data) {
  const button = document.createElement('button')
  button.type = 'button'
  button.title = item.alt
  button.dataset.index = item.index
  button.tabIndex = -1
  button.setAttribute('aria-label', `image ${item.index}: ${item.alt}`)
  const thumb = document.createElement('span')
  thumb.className = 'thumb'
  thumb.style.backgroundSize = `${THUMB * data.columns}px auto`
  thumb.style.backgroundPosition = `-${THUMB * (position % data.columns)}px -${THUMB * Math.floor(position / data.columns)}px`
  button.append(thumb, ...item.caption.map((line) => {
    const text = document.createElement('span')
    text.className = 'caption'
    text.textContent = line
    return text
  }))
  return button
}

function setSheet(kept, grid, sheet) {  // a short address: each thumbnail's style holds it
  URL.revokeObjectURL(kept.sheet)
  kept.sheet = URL.createObjectURL(new Blob([Uint8Array.from(atob(sheet), (c) => c.charCodeAt(0))], { type: 'image/png' }))
  grid.style.setProperty('--sheet', `url(${kept.sheet})`)
}

function heading(text) {
  const title = document.createElement('h3')
  title.textContent = text
  return title
}

function stopAt(buttons, button) {
  buttons.forEach((other) => { other.tabIndex = other === button ? 0 : -1 })
}

function nextPosition(key, position, buttons) {
  const top = (button) => button.getBoundingClientRect().top
  const below = (from, by) => {  // the button of the next row that is nearest in its column
    const left = buttons[from].getBoundingClientRect().left
    const rows = [...new Set(buttons.map(top))].sort((a, b) => a - b)
    const row = rows[rows.indexOf(top(buttons[from])) + by]
    const there = buttons.map((button, i) => [Math.abs(button.getBoundingClientRect().left - left), i]).filter(([, i]) => top(buttons[i]) === row)
    return there.length ? there.sort((a, b) => a[0] - b[0])[0][1] : from
  }
  switch (key) {
    case 'ArrowRight': return Math.min(position + 1, buttons.length - 1)
    case 'ArrowLeft': return Math.max(position - 1, 0)
    case 'ArrowDown': return below(position, 1)
    case 'ArrowUp': return below(position, -1)
    case 'Home': return 0
    case 'End': return buttons.length - 1
    default: return null
  }
}

function skipLink(grid) {
  const link = document.createElement('a')
  link.textContent = 'Skip to the images'
  link.href = '#images'
  link.className = 'skip-to-images'
  const hide = 'position:fixed;top:-60px;left:8px;z-index:1000000;padding:8px 14px;border-radius:6px;background:#00664b;color:#fff'
  link.style.cssText = hide
  link.onfocus = () => { link.style.top = '8px' }
  link.onblur = () => { link.style.cssText = hide }
  link.onclick = (event) => {
    event.preventDefault()
    grid.querySelector('button[tabindex="0"]')?.focus()
  }
  return link
}

export default function({ data, parentElement, setTriggerValue }) {
  const grid = parentElement.querySelector('.grid')
  const kept = parentElement.host ?? parentElement
  const send = (open) => {
    const told = {
      key: data.key, grid, items: data.items, sheet: grid.style.getPropertyValue('--sheet'), columns: data.columns, page: data.page,
      pages: data.pages, first: data.first, total: data.total, open, turn: (page) => setTriggerValue('turned', page),
      focus: (index) => {
        const button = grid.querySelector(`[data-index="${index}"]`)
        if (button) stopAt([...grid.querySelectorAll('button')], button)
        button?.focus()
      },
    }
    document.dispatchEvent(new CustomEvent('gallery', { detail: told }))
    kept.waiting = told.heard ? null : open  // clicked before the lightbox was there
  }
  kept.send = send
  const version = JSON.stringify(data.items)
  if (kept.shown !== version) {
    kept.shown = version
    const focused = parentElement.activeElement?.dataset?.index
    setSheet(kept, grid, data.sheet)
    grid.replaceChildren(...data.items.flatMap((item, position) => [
      ...(item.heading ? [heading(item.heading)] : []), thumbnail(item, position, data),
    ]))
    const buttons = [...grid.querySelectorAll('button')]
    const again = buttons.find((button) => button.dataset.index === focused)
    stopAt(buttons, again ?? buttons[0])
    again?.focus()
  }
  grid.onclick = (event) => {
    const button = event.target.closest('button')
    if (!button) return
    stopAt([...grid.querySelectorAll('button')], button)
    send(Number(button.dataset.index))
  }
  grid.onkeydown = (event) => {
    const buttons = [...grid.querySelectorAll('button')]
    const next = nextPosition(event.key, buttons.indexOf(event.target), buttons)
    if (next === null || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    event.stopPropagation()
    stopAt(buttons, buttons[next])
    buttons[next].focus()
  }
  if (!kept.called) {  // once a gallery: the lightbox may come later than the gallery and asks for it
    kept.called = () => kept.send(kept.waiting ?? null)
    document.addEventListener('gallery-call', kept.called)
    kept.skip = document.querySelector('.skip-to-images') ? null : skipLink(grid)
    if (kept.skip) document.body.prepend(kept.skip)
  }
  send(kept.waiting ?? null)
  return () => {
    if (kept.isConnected) return  // Streamlit calls this too for an answer that the next one overtook
    document.removeEventListener('gallery-call', kept.called)
    document.dispatchEvent(new CustomEvent('gallery-gone', { detail: { key: data.key, grid } }))
    kept.skip?.remove()
    kept.called = null
    kept.shown = null
    URL.revokeObjectURL(kept.sheet)
  }
}
