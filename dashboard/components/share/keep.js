// One more slide in the visitor's own deck, which this browser remembers and deck.js shows. It goes before the scripts that call it.

// {chosen: ids or null, added: slides from other pages}; what is not ours, which another program at this address may have left, is none.
function readDeck() {
  let found = null
  try {
    found = JSON.parse(localStorage.deck ?? 'null')
  } catch {}
  return { chosen: Array.isArray(found?.chosen) ? found.chosen : null, added: Array.isArray(found?.added) ? found.added : [] }
}

// Returns why it could not be kept, or ''.
function writeDeck(deck) {
  try {
    localStorage.deck = JSON.stringify(deck, (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value))
  } catch (error) {
    return error.name === 'QuotaExceededError' ? 'No room: delete slides in Present' : error.message
  }
  return ''
}

// biome-ignore lint/correctness/noUnusedVariables: called by the scripts it goes before
function keepSlide({ run, ...slide }) {
  const kept = readDeck()
  const id = `added-${Date.now()}`
  const notes = `From ${location.pathname}${location.search}`
  kept.added.push({ id, notes, foot: run, layout: slide.images ? 'below' : 'beside', ...slide })
  kept.chosen?.push(id)
  return writeDeck(kept) || 'In the deck ✓'
}

