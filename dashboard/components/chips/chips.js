// What is filtered, as chips to remove; Reset; Copy link; on a telephone also what opens the menus.

function button(text, label, action, className) {
  const made = document.createElement('button')
  made.type = 'button'
  made.className = className ?? ''
  made.textContent = text
  if (label) made.setAttribute('aria-label', label)
  made.onclick = action
  return made
}

function tellFold(fold) {
  fold.setAttribute('aria-expanded', document.documentElement.classList.contains('filters-open'))
}

async function copyLink(event) {
  const shown = event.target
  try {
    await navigator.clipboard.writeText(location.href)
    shown.textContent = 'Link copied'
  } catch {  // no clipboard on a page served without https
    window.prompt('Copy this link:', location.href)
  }
  setTimeout(() => { shown.textContent = 'Copy link' }, 1500)
}

export default function({ data, parentElement, setTriggerValue }) {
  const chips = parentElement.querySelector('.chips')
  const gone = [] // since this answer: a second chip may be clicked before the next
  const remove = (event, part) => {
    gone.push(part)
    event.currentTarget.nextElementSibling.focus()
    event.currentTarget.remove()
    setTriggerValue('removed', [...gone])
  }
  const before = [...chips.children].indexOf(parentElement.activeElement)
  const focused = chips.children[before]?.textContent
  chips.replaceChildren(
    ...data.parts.map(([name, value, text]) =>
      button(`${text} ✕`, `remove the filter ${text}`, (event) => remove(event, [name, value]), 'chip')),
    button('Reset', 'reset all filters', () => setTriggerValue('reset', true)),
    button('Copy link', null, copyLink),
    button('Filters', 'filters', (event) => {
      document.documentElement.classList.toggle('filters-open')
      tellFold(event.target)
    }, 'fold'),
  )
  tellFold(chips.lastChild)
  const made = [...chips.children]
  if (focused) (made.find((one) => one.textContent === focused) ?? made[Math.min(before, data.parts.length)]).focus() // or what took its place
}
