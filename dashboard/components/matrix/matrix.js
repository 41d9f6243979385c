// The confusion matrix of what is filtered, with each class's recall at the end of its row and its precision at the foot of its column.

function cell(tag, text, { label, chosen, shade, action } = {}) {
  const made = document.createElement(tag)
  if (shade) made.style.setProperty('--shade', `${Math.round(100 * shade)}%`)
  if (!action) {
    made.textContent = text
    return made
  }
  const button = document.createElement('button')
  button.type = 'button'
  button.textContent = text
  button.title = label
  button.setAttribute('aria-label', label)
  button.setAttribute('aria-pressed', Boolean(chosen))
  button.onclick = action
  made.append(button)
  return made
}

function head(text, scope) {
  const made = cell('th', '')
  made.scope = scope
  const name = document.createElement('span')
  name.textContent = text
  made.append(name)
  return made
}

const percent = (value) => (value === null ? '–' : `${Math.round(100 * value)}`)

export default function({ data, parentElement, setTriggerValue }) {
  const table = parentElement.querySelector('table')
  const { classes, counts, recall, precision } = data
  const largest = Math.max(1, ...counts.flatMap((row, i) => row.filter((_, j) => i !== j)))
  const row = (...cells) => {
    const made = document.createElement('tr')
    made.append(...cells)
    return made
  }
  const caption = document.createElement('caption')
  caption.textContent = data.caption
  table.style.setProperty('--color', data.color)
  const rows = classes.map((name, i) => row(
    head(name, 'row'),
    ...counts[i].map((n, j) => cell('td', n || '·', n ? {
      label: `true ${name}, predicted ${classes[j]}: ${n}`,
      chosen: data.chosen.some(([a, b]) => a === name && b === classes[j]),
      shade: i === j ? 0 : 0.7 * n / largest,
      action: () => setTriggerValue('clicked', ['cell', name, classes[j]]),
    } : {})),
    cell('td', percent(recall[i]), recall[i] === null ? {} : {
      label: `recall of ${name}: ${percent(recall[i])} %, its misses`, action: () => setTriggerValue('clicked', ['misses', name, '']),
    }),
  ))
  const foot = row(head('precision %', 'row'), ...classes.map((name, j) => cell('td', percent(precision[j]), precision[j] === null ? {} : {
    label: `precision of ${name}: ${percent(precision[j])} %, its false positives`,
    action: () => setTriggerValue('clicked', ['false positives', name, '']),
  })), cell('td', ''))
  const top = row(head('true ↓ predicted →', 'col'), ...classes.map((name) => head(name, 'col')), head('recall %', 'col'))
  top.className = 'top'
  foot.className = 'foot'
  const focused = parentElement.activeElement?.ariaLabel?.split(':')[0] // without its count, which may be another now
  table.replaceChildren(caption, top, ...rows, foot)
  if (focused) [...table.querySelectorAll('button')].find((made) => made.ariaLabel.split(':')[0] === focused)?.focus()
}
