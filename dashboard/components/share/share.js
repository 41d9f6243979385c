// A chart as a picture of 16 to 9, and charts or images as slides of the visitor's own deck, which this browser remembers.
const SIZE = { width: 960, height: 540, scale: 2 } // pixels; a PNG has twice as many

export default function ({ data, parentElement }) {
  const place = parentElement.querySelector('.share')
  const button = (text, title, act) => {
    const node = Object.assign(document.createElement('button'), { type: 'button', textContent: text, title })
    node.onclick = async () => {
      node.textContent = await act().catch((error) => error.message)
      setTimeout(() => {
        node.textContent = text
      }, 2500)
    }
    return node
  }
  const picture = (format, name) => button(name, `Download as ${name}, 16:9, with title, caption and run`, () => download(data, format).then(() => name))
  const add = button(data.images ? 'Add to deck' : 'To deck', 'Add to the slides of Present, in this browser', () => addSlide(data))
  place.replaceChildren(...(data.chart ? [picture('png', 'PNG'), picture('svg', 'SVG')] : []), add)
}

// The button may be there before its chart is.
async function findChart(key) {
  const marked = key.replaceAll(/[^a-zA-Z0-9_-]/g, '-') // as Streamlit writes a key into a class
  const drawn = () => document.querySelector(`.st-key-${marked} .js-plotly-plot:has(.main-svg)`)
  for (let tries = 0; !drawn(); tries++) {
    if (tries > 600) throw new Error('The chart is not here yet: try again')
    await new Promise((later) => setTimeout(later, 50))
  }
  const { data, layout } = drawn()
  return { data, layout: { ...layout, updatemenus: undefined } } // a button to press is nothing to print
}

function wrap(text, width) {
  const lines = ['']
  for (const word of text.split(' ')) {
    if (lines.at(-1).length + word.length > width) lines.push('')
    lines.push(`${lines.pop()} ${word}`.trim())
  }
  return lines
}

async function download({ chart, title, caption, run, file }, format) {
  const { data, layout } = await findChart(chart)
  const lines = wrap(`${caption} Run ${run}.`, 125)
  const look = getComputedStyle(document.querySelector('[data-testid=stApp]'))
  const picture = {
    ...layout,
    title: { text: `<b>${title}</b>`, font: { size: 20 }, x: 0, xref: 'container', xanchor: 'left', y: 1, yref: 'container', yanchor: 'top',
      pad: { l: 16, t: 24 }, subtitle: { text: lines.join('<br>'), font: { size: 12 } } }, // prettier-ignore
    margin: { l: 24, r: 24, t: 76 + 16 * lines.length + layout.meta.above, b: 24 },
    paper_bgcolor: look.backgroundColor,
    plot_bgcolor: look.backgroundColor,
    ...SIZE,
    autosize: false,
  }
  const { width, height, scale } = SIZE
  const href = await window.Plotly.toImage({ data, layout: picture }, { format, width, height, scale: format === 'svg' ? 1 : scale })
  Object.assign(document.createElement('a'), { href, download: `${file}.${format}` }).click()
}

async function addSlide({ chart, images, title, caption, run }) {
  if (images) return keepSlide({ title, text: caption, run, images })
  const { data, layout } = await findChart(chart)
  for (const axis of Object.keys(layout).filter((name) => /^[xy]axis/.test(name) && layout[name].title?.text)) {
    const text = wrap(layout[axis].title.text.replaceAll(' %', '\u00a0%'), 32).join('<br>') // beside long names an axis is short
    layout[axis] = { ...layout[axis], title: { ...layout[axis].title, text } }
  }
  const bare = { template: undefined, height: undefined, width: undefined, margin: { l: 8, r: 12, t: 12 + layout.meta.above, b: 8 } }
  const { backgroundColor: background, color } = getComputedStyle(document.querySelector('[data-testid=stApp]'))
  return keepSlide({ title, text: caption, run, chart: { data, layout: { ...layout, ...bare }, look: { background, color } } })
}
