// The visitor's tags and notes on images: kept in this browser's local storage, told to the page, exported and imported as JSON.
// The lightbox changes them through "tags-set" events and hears of them through "tags" events.

const SAVED = 60_000  // milliseconds in which a browser has begun to save a file
const STORE = 'image-tags'  // {index: {tags: [...], note: '...'}}

function read() {
  try {
    return clean(JSON.parse(localStorage.getItem(STORE) ?? '{}'))
  } catch {
    return {}
  }
}

function clean(found) {  // only what is well formed; anything else in an imported file is left out
  if (typeof found !== 'object' || found === null) return {}
  return Object.fromEntries(Object.entries(found).flatMap(([index, one]) => {
    if (!/^\d{1,5}$/.test(index) || typeof one !== 'object' || one === null) return []
    const tags = Array.isArray(one.tags) ? one.tags.filter((tag) => typeof tag === 'string' && tag.trim()).slice(0, 20) : []
    const note = typeof one.note === 'string' ? one.note.slice(0, 500) : ''
    return tags.length || note ? [[index, { tags: [...new Set(tags.map((tag) => tag.trim().slice(0, 40)))], note }]] : []
  }))
}

function download(text) {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(new Blob([text], { type: 'application/json' }))
  link.download = 'image-tags.json'
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), SAVED)
}

export default function({ data, parentElement, setStateValue }) {
  const kept = parentElement.host ?? parentElement
  const say = (text) => { parentElement.querySelector('.said').textContent = text }
  const tell = (tagged) => {
    const text = JSON.stringify(tagged)
    if (text !== kept.told) setStateValue('tagged', tagged)
    kept.told = text
    const n = Object.keys(tagged).length
    parentElement.querySelector('.export').disabled = n === 0
    parentElement.querySelector('.export').textContent = `Export tags (${n})`
    document.dispatchEvent(new CustomEvent('tags', { detail: tagged }))
  }
  const write = (tagged) => {
    try {
      localStorage.setItem(STORE, JSON.stringify(tagged))
    } catch {
      say('This browser has no room for more tags: nothing was changed.')
      return false
    }
    tell(tagged)
    return true
  }
  kept.told ??= JSON.stringify(data.known)
  kept.leaving?.abort()  // each answer of the server brings this script anew
  kept.leaving = new AbortController()
  const { signal } = kept.leaving
  document.addEventListener('tags-set', ({ detail: { index, tags, note } }) => write(clean({ ...read(), [index]: { tags, note } })), { signal })
  document.addEventListener('tags-call', () => tell(read()), { signal })
  window.addEventListener('storage', ({ key }) => { if (key === STORE) tell(read()) }, { signal })
  parentElement.querySelector('.export').onclick = () => download(JSON.stringify(read(), null, 1))
  parentElement.querySelector('input').onchange = async (event) => {
    const file = event.target.files[0]
    event.target.value = ''
    try {
      const found = clean(JSON.parse(await file.text()))
      const n = Object.keys(found).length
      const all = read()
      for (const [index, { tags, note }] of Object.entries(found)) { // what the visitor has of the same image stays
        const own = all[index] ?? { tags: [], note: '' }
        const notes = own.note.includes(note) ? own.note : [own.note, note].filter(Boolean).join(' / ')
        all[index] = { tags: [...own.tags, ...tags], note: notes }
      }
      if (n && !write(clean(all))) return
      say(n ? `Read the tags of ${n} image${n > 1 ? 's' : ''}.` : 'This file holds no tags: choose one that was exported here.')
    } catch {
      say('This file is no JSON: choose one that was exported here.')
    }
  }
  parentElement.querySelector('.import').onclick = () => parentElement.querySelector('input').click()
  tell(read())
  return () => { if (!kept.isConnected) kept.leaving.abort() }  // Streamlit calls this too for an answer that the next one overtook
}
