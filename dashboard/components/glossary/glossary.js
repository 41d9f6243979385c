// Underlines every word of the glossary on the page and explains it under the pointer. It changes nothing of the page:
// the words are marked with the CSS Custom Highlight API, for Streamlit owns the elements.
const LEFT_OUT = 'script, style, svg, textarea, input, button, h1, h2, .deck'

export default function ({ data, parentElement }) {
  if (!window.CSS?.highlights) return
  const tip = parentElement.querySelector('.glossary-tip')
  const meanings = new Map(data.words.flatMap(({ name, meaning, forms }) => [name, ...forms].map((form) => [form, `${name}: ${meaning}`])))
  const forms = [...meanings.keys()].sort((a, b) => b.length - a.length).map((form) => form.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  const pattern = new RegExp(`(?<![\\p{L}\\d])(${forms.join('|')})(?![\\p{L}\\d])`, 'gu')
  const main = document.querySelector('[data-testid=stMain]')
  let found = []

  const scan = () => {
    found = []
    const walker = document.createTreeWalker(main, NodeFilter.SHOW_TEXT)
    while (walker.nextNode()) {
      const node = walker.currentNode
      if (node.parentElement.closest(LEFT_OUT)) continue
      for (const match of node.data.matchAll(pattern)) {
        const range = new StaticRange({ startContainer: node, startOffset: match.index, endContainer: node, endOffset: match.index + match[0].length })
        found.push({ range, node, from: match.index, to: match.index + match[0].length, meaning: meanings.get(match[0]) })
      }
    }
    CSS.highlights.set('glossary', new Highlight(...found.map(({ range }) => range)))
  }

  const point = ({ clientX, clientY }) => {
    const caret = document.caretPositionFromPoint?.(clientX, clientY)
    const older = caret ? null : document.caretRangeFromPoint?.(clientX, clientY) // Safari's, until 26.2
    const [place, offset] = caret ? [caret.offsetNode, caret.offset] : [older?.startContainer, older?.startOffset]
    const at = place && found.find(({ node, from, to }) => node === place && offset >= from && offset <= to)
    const range = at && document.createRange()
    range?.setStart(at.node, at.from)
    range?.setEnd(at.node, at.to)
    const box = range?.getBoundingClientRect()
    const over = box && clientX >= box.left - 2 && clientX <= box.right + 2 && clientY >= box.top - 2 && clientY <= box.bottom + 2
    tip.classList.toggle('shown', Boolean(over))
    if (!over) return
    tip.textContent = at.meaning
    tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`
    tip.style.top = `${box.bottom + 6 + tip.offsetHeight > innerHeight ? box.top - 6 - tip.offsetHeight : box.bottom + 6}px`
  }

  let waiting = null
  const watch = new MutationObserver(() => {
    clearTimeout(waiting)
    waiting = setTimeout(scan, 250)
  })
  parentElement.leaving?.abort() // each answer of the server brings this script anew
  const leaving = new AbortController()
  parentElement.leaving = leaving
  leaving.signal.addEventListener('abort', () => {
    watch.disconnect()
    clearTimeout(waiting)
  })
  watch.observe(main, { childList: true, subtree: true, characterData: true })
  for (const event of ['pointermove', 'pointerdown']) document.addEventListener(event, point, { passive: true, signal: leaving.signal })
  scan()
  return () => {
    if (parentElement.isConnected) return // Streamlit calls this too for an answer that the next one overtook
    leaving.abort()
    CSS.highlights.delete('glossary')
  }
}
