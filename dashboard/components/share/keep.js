// One more slide in the visitor's own deck, which this browser remembers and deck.js shows. It goes before the scripts that call it.

// biome-ignore lint/correctness/noUnusedVariables: called by the scripts it goes before
function keepSlide({ run, ...slide }) {
  const kept = { chosen: null, added: [], ...JSON.parse(localStorage.deck ?? '{}') }
  const id = `added-${Date.now()}`
  const notes = `From ${location.pathname}${location.search}`
  kept.added.push({ id, notes, foot: run, layout: slide.images ? 'below' : 'beside', ...slide })
  kept.chosen?.push(id)
  try {
    localStorage.deck = JSON.stringify(kept, (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value))
  } catch (error) {
    return error.name === 'QuotaExceededError' ? 'No room: delete slides in Present' : error.message
  }
  return 'In the deck ✓'
}

