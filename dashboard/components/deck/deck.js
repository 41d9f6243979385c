// The slides: an overview to choose from, and the show. All of it happens in the browser, so that no key is lost; the
// address follows (step, slides). The exported file holds this same script with its slides.
export default function mount({ data, parentElement }) {
  const root = parentElement.querySelector('.deck')
  root.deck?.stop()
  root.deck = new Deck(root, data, root.deck)
  return () => { if (!root.isConnected) root.deck.stop() } // Streamlit calls this too for an answer that the next one overtook
}

const ENLARGED = 2 // charts are drawn at half their size and enlarged: letters, marks and lines grow alike
const TEXT = { title: [68, 44], text: [38, 26], card: [300, 90], big: [180, 100] } // pixels on a slide 1920 wide: at most, at least
const SAVED = 60_000 // milliseconds in which a browser has begun to save a file
const NEXT = ['ArrowRight', 'ArrowDown', 'PageDown', ' ', 'Enter']
const BACK = ['ArrowLeft', 'ArrowUp', 'PageUp', 'Backspace']

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties)
  node.append(...children)
  return node
}

class Deck {
  constructor(root, data, before) {
    Object.assign(this, { root, data, at: 0, notes: false, forgotten: [], since: Date.now(), leaving: new AbortController() })
    const query = new URLSearchParams(data.offline ? '' : location.search)
    this.address = before?.address ?? { slides: query.get('slides'), step: query.get('step') } // what the browser keeps of it
    this.kept = data.offline ? { chosen: data.chosen, added: [] } : readDeck()
    this.slides = [...data.slides, ...this.kept.added.map((slide) => ({ ...slide, added: true, main: true }))]
    this.order = this.slides // the usual one; this.slides follow the visitor's
    this.wanted = before ? before.wanted : (this.address.slides?.split(',') ?? this.kept.chosen) // ids, of other runs too; null: the usual
    this.choose(this.known(this.wanted ?? []) ?? this.usual(), false)
    this.build()
    const { signal } = this.leaving
    window.addEventListener('keydown', (event) => this.press(event), { capture: true, signal })
    window.addEventListener('pagehide', () => this.closeDesk(), { signal }) // the next page cannot write into it
    if (data.offline) {
      window.addEventListener('beforeprint', () => this.arrange(true), { signal })
      window.addEventListener('afterprint', () => this.arrange(), { signal })
    }
    this.watch = new ResizeObserver(() => this.arrange())
    this.watch.observe(this.list)
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting && !this.showing) this.draw(this.slides.find((slide) => slide.node === entry.target))
    })
    const path = location.pathname
    this.drawn = new MutationObserver(() => { // the server writes the address without what it does not know
      if (location.pathname === path) for (const [name, value] of Object.entries(this.address)) this.setAddress(name, value)
    })
    const app = document.querySelector('[data-testid=stApp]')
    if (app) this.drawn.observe(app, { attributeFilter: ['data-test-script-state'] })
    const step = this.readStep()
    if (step) this.show(step - 1)
    else this.leave()
  }

  stop() {
    this.leaving.abort()
    this.closeDesk()
    this.watch.disconnect()
    this.seen.disconnect()
    this.drawn.disconnect()
    this.free(false)
  }

  // --- which slides, and where ---------------------------------------------------------------------------------------

  // Of ids those of slides that this run has; null where there is none.
  known(ids) {
    const known = ids.filter((id) => this.slides.some((slide) => slide.id === id))
    return known.length ? known : null
  }

  usual() {
    if (this.data.offline) return this.data.chosen
    return this.order.filter((slide) => slide.main && this.slides.includes(slide)).map((slide) => slide.id)
  }

  choose(ids, keep = true) {
    this.chosen = ids.map((id) => this.slides.find((slide) => slide.id === id))
    const rest = this.order.filter((slide) => this.slides.includes(slide) && !this.chosen.includes(slide))
    this.slides = [...this.chosen, ...rest]
    if (!keep) return
    const usual = this.usual().join() === ids.join()
    const away = (this.wanted ?? []).filter((id) => !this.slides.some((slide) => slide.id === id)) // of other runs
    this.wanted = usual && !away.length ? null : [...ids, ...away]
    this.kept.chosen = this.wanted
    this.keep()
    this.setAddress('slides', usual ? null : ids.join())
    for (const slide of this.slides) this.list.append(slide.node)
    this.arrange()
  }

  keep() {
    const known = new Set([...this.kept.added, ...this.forgotten].map((slide) => slide.id))
    const { added, chosen } = readDeck() // other tabs add and delete slides too
    const elsewhere = added.filter((slide) => !known.has(slide.id)) // added in another tab meanwhile
    const ticked = elsewhere.map((slide) => slide.id).filter((id) => chosen?.includes(id) ?? true)
    const left = added.filter((slide) => !this.forgotten.some(({ id }) => id === slide.id))
    this.full = writeDeck({ chosen: this.kept.chosen && [...this.kept.chosen, ...ticked], added: left })
  }

  readStep() {
    const text = this.data.offline ? location.hash.slice(1) || '1' : this.address.step
    return text === null ? 0 : Math.min(Math.max(parseInt(text, 10) || 1, 1), this.chosen.length)
  }

  setAddress(name, value) {
    if (this.data.offline) return
    this.address[name] = value
    const address = new URL(location.href)
    if (value === null) address.searchParams.delete(name)
    else address.searchParams.set(name, value)
    if (address.href !== location.href) history.replaceState(history.state, '', address)
  }

  toggle(slide, on) {
    const ids = this.chosen.map((one) => one.id)
    this.choose(on ? [...ids, slide.id] : ids.filter((id) => id !== slide.id))
  }

  move(slide, by) {
    const ids = this.chosen.map((one) => one.id)
    const from = ids.indexOf(slide.id)
    const to = Math.min(Math.max(from + by, 0), ids.length - 1)
    ids.splice(to, 0, ...ids.splice(from, 1))
    this.choose(ids)
    slide.node.querySelector(by < 0 ? '.up' : '.down').focus()
  }

  reset() {
    this.wanted = null
    this.choose(this.usual())
  }

  forget(slide) {
    this.forgotten.push(slide)
    this.wanted = this.wanted?.filter((id) => id !== slide.id)
    this.kept.added = this.kept.added.filter((one) => one.id !== slide.id)
    this.slides = this.slides.filter((one) => one !== slide)
    slide.node.remove()
    this.choose(this.chosen.filter((one) => one !== slide).map((one) => one.id))
  }

  // --- what there is to see ------------------------------------------------------------------------------------------

  build() {
    const button = (className, text, title, act) => {
      const node = make('button', { type: 'button', className, textContent: text, title, onclick: act })
      node.setAttribute('aria-label', title)
      return node
    }
    this.list = make('ol', { className: 'slides' })
    for (const slide of this.slides) {
      Object.assign(slide, { node: this.buildSlide(slide, button), fitted: null, drawn: null }) // its node is new, though the slide may not be
      this.list.append(slide.node)
    }
    this.count = make('span', { className: 'count' })
    this.count.setAttribute('aria-live', 'polite')
    this.bar = make(
      'div',
      { className: 'bar' },
      button('start', 'Start', 'Start the show', () => this.show(0)),
      ...(this.data.offline
        ? []
        : [button('save', 'Save as one file', 'Save the chosen slides as one HTML file that opens offline and prints to PDF', () => this.save())]),
      button('reset', 'Reset', 'Back to the usual slides, in the usual order', () => this.reset()),
      make('span', { className: 'chosen' }),
    )
    this.remote = make(
      'div',
      { className: 'remote' },
      button('back', '‹ Back', 'Back (←)', () => this.go(this.at - 1)),
      this.count,
      button('next', 'Next ›', 'Next (→)', () => this.go(this.at + 1)),
      make('span', { className: 'space' }),
      button('speak', 'Notes', 'Speaker notes (N)', () => this.speak()),
      button('grid', 'Overview', 'All slides (O)', () => this.lookOver()),
      ...(document.fullscreenEnabled ? [button('full', 'Full screen', 'Full screen (F)', () => this.fill())] : []),
      button('leave', 'Leave', 'Leave the show (Esc)', () => this.leave()),
    )
    this.remote.onclick = (event) => event.detail && this.root.focus() // the mouse leaves no button that Space would press
    this.words = make('aside', { className: 'notes', ariaLabel: 'Speaker notes' })
    this.part = button('part', 'Second window', 'Speaker notes in a window of their own', () => this.openDesk())
    const keys = 'In the show, arrows, Page keys, Space, Home and End step; N speaker notes, F full screen, O overview, B black screen, Esc leaves.'
    this.root.replaceChildren(make('p', { className: 'keys', textContent: keys }), this.bar, this.list, this.words, this.remote)
    this.root.tabIndex = -1
    let from = null
    this.list.ontouchstart = (event) => {
      from = event.touches.length === 1 && (window.visualViewport?.scale ?? 1) < 1.05 ? event.touches[0] : null // two fingers zoom, one then pans
    }
    this.list.ontouchend = (event) => {
      if (!from) return
      const { clientX, clientY } = event.changedTouches[0]
      const far = clientX - from.clientX
      if (this.showing && Math.abs(far) > Math.max(60, 2 * Math.abs(clientY - from.clientY))) this.go(this.at - Math.sign(far))
    }
  }

  buildSlide(slide, button) {
    const said = make('div', { className: 'said' })
    if (slide.text) said.append(make('p', { textContent: slide.text }))
    else said.innerHTML = slide.said ?? '' // escaped where it was written
    const shown = make('div', { className: 'shown' })
    if (slide.chart) shown.append(make('div', { className: 'chart', ariaLabel: slide.title, role: 'img' }, make('div')))
    else if (slide.images) shown.append(this.buildCards(slide.images))
    else shown.innerHTML = slide.shown ?? ''
    const foot = make('footer', {}, make('span', { textContent: slide.foot ?? this.data.foot }), make('span', { className: 'number' }))
    const face = make('section', { className: 'face' }, make('h2', { textContent: slide.title }), make('div', { className: 'body' }, said, shown), foot)
    face.dataset.layout = slide.layout ?? 'beside'
    const box = make('input', { type: 'checkbox', onchange: (event) => this.toggle(slide, event.target.checked) })
    const tools = make('div', { className: 'tools' }, make('label', {}, box, slide.title))
    tools.append(button('up', '↑', `Earlier: ${slide.title}`, () => this.move(slide, -1)), button('down', '↓', `Later: ${slide.title}`, () => this.move(slide, 1)))
    if (slide.added) tools.append(button('forget', '✕', `Delete: ${slide.title}`, () => this.forget(slide)))
    const open = button('open', '', `Show: ${slide.title}`, () => {
      if (!this.chosen.includes(slide)) this.toggle(slide, true)
      this.show(this.chosen.indexOf(slide))
    })
    open.onfocus = () => {
      this.at = Math.max(this.chosen.indexOf(slide), 0)
    }
    const node = make('li', { className: 'slide' }, make('div', { className: 'frame' }, face, open), tools)
    node.dataset.id = slide.id
    return node
  }

  buildCards(images) {
    const card = ({ uri, alt, text }) => make('figure', {}, make('img', { src: uri, alt }), text)
    return make('div', { className: 'cards' }, ...images.map(card))
  }

  // Scale every slide to its frame; in the show a slide takes the window's own shape, in print it is 1920 x 1080.
  arrange(printing = false) {
    const window_ = this.list.getBoundingClientRect()
    for (const [i, slide] of this.chosen.entries()) slide.node.querySelector('.number').textContent = `${i + 1} / ${this.chosen.length}`
    this.bar.querySelector('.chosen').textContent = `${this.chosen.length} of ${this.slides.length} slides${this.full ? `. ${this.full}` : ''}`
    for (const slide of this.slides) {
      const chosen = this.chosen.includes(slide)
      slide.node.classList.toggle('out', !chosen)
      slide.node.querySelector('input').checked = chosen
      if (!chosen) slide.node.querySelector('.number').textContent = ''
      if (this.root.dataset.mode === 'grid' && !chosen) continue // hidden
      if (this.showing && !printing && Math.abs(this.chosen.indexOf(slide) - this.at) > 1) continue // the neighbours are made ready
      const face = slide.node.querySelector('.face')
      face.inert = !this.showing && !printing // a small picture of the slide, which the button on it names
      let size = [1920, 1080]
      let scale = printing ? 1 : slide.node.querySelector('.frame').clientWidth / 1920
      if (this.showing && !printing) {
        const wide = window_.width < 700 ? 900 : 1920 // a telephone's slides are narrow, their letters large
        scale = Math.min(window_.width / wide, window_.height / ((wide * 9) / 16))
        size = [window_.width / scale, window_.height / scale]
      }
      Object.assign(face.style, { width: `${size[0]}px`, height: `${size[1]}px`, transform: `scale(${scale})` })
      face.classList.toggle('narrow', size[0] < 1000)
      const fitted = size.map(Math.round).join()
      if (slide.fitted !== fitted) {
        slide.fitted = fitted
        this.fitText(face)
      }
      if (this.showing || printing || slide.drawn) this.draw(slide)
    }
  }

  // The largest text with which nothing hangs over; on a telephone, where slides scroll, over the side.
  fitText(face) {
    const parts = face.classList.contains('narrow') ? [] : [face, ...face.querySelectorAll('.body, .said, .shown')]
    const over = () => parts.some((part) => part.scrollHeight > part.clientHeight + 1 || part.scrollWidth > part.clientWidth + 1)
    for (let share = 1; share >= 0; share -= 0.1) {
      for (const [name, [most, least]] of Object.entries(TEXT)) face.style.setProperty(`--${name}`, `${least + share * (most - least)}px`)
      if (!over()) break
    }
    face.classList.toggle('over', over()) // a slide of the visitor's own may be too long for any size: it scrolls
  }

  loadPlotly() {
    window.deckPlotly ??= this.data.offline // of all decks that this tab shows
      ? Promise.resolve(window.Plotly)
      : new Promise((done, fail) => {
          document.head.append(make('script', { src: this.data.plotly, onload: () => done(window.Plotly), onerror: () => fail(new Error(`no ${this.data.plotly}`)) }))
        })
    window.deckPlotly.catch(() => { window.deckPlotly = null }) // the next chart tries again
    return window.deckPlotly
  }

  async draw(slide) {
    if (!slide?.chart) return
    const box = slide.node.querySelector('.chart')
    const [width, height] = [box.clientWidth / ENLARGED, box.clientHeight / ENLARGED]
    if (slide.drawn === `${width}x${height}` || !width || !height) return
    const { title, ...layout } = slide.chart.layout
    const plotly = await this.loadPlotly()
    slide.drawn = `${width}x${height}`
    box.firstChild.style.transform = `scale(${ENLARGED})`
    const settings = { displayModeBar: false, plotGlPixelRatio: 2 * ENLARGED }
    const { color: text, fontFamily: family } = getComputedStyle(this.root)
    const { background, color } = slide.chart.look ?? { background: 'rgba(0,0,0,0)', color: text } // a page's chart has marks in that page's colours
    const clear = { paper_bgcolor: background, plot_bgcolor: background, font: { size: 13, ...layout.font, color, family } }
    await plotly.react(box.firstChild, slide.chart.data, { ...layout, ...clear, template: this.data.template, width, height, autosize: false }, settings)
  }

  // --- the show ------------------------------------------------------------------------------------------------------

  get showing() {
    return this.root.dataset.mode === 'show'
  }

  // Three modes: the page's list (overview), the show, and all its slides side by side (grid).
  enter(mode) {
    const before = this.root.dataset.mode ?? 'overview'
    this.root.dataset.mode = mode
    this.root.classList.remove('black')
    this.free(mode !== 'overview')
    for (const slide of this.slides) {
      this.seen.unobserve(slide.node) // so that it tells anew what is in sight
      this.seen.observe(slide.node)
    }
    return before
  }

  show(at) {
    if (this.enter('show') === 'overview') this.since = Date.now()
    if (!this.chosen.length) this.choose(this.usual())
    this.root.focus()
    this.go(at)
  }

  lookOver() {
    this.enter('grid')
    this.arrange()
    this.focus(this.at)
  }

  focus(at) {
    this.chosen[Math.min(Math.max(at, 0), this.chosen.length - 1)].node.querySelector('.open').focus()
  }

  leave() {
    if (document.fullscreenElement) document.exitFullscreen()
    this.closeDesk()
    const before = this.enter('overview')
    this.setAddress('step', null)
    this.arrange()
    if (before !== 'overview') this.focus(this.at)
  }

  // While the show covers them, the page's other parts take no focus.
  free(covered) {
    for (const part of document.querySelectorAll('[data-testid=stSidebar], [data-testid=stHeader]')) part.inert = covered
  }

  go(at) {
    this.at = Math.min(Math.max(at, 0), this.chosen.length - 1)
    const now = this.chosen[this.at]
    for (const slide of this.slides) slide.node.classList.toggle('now', slide === now)
    this.count.textContent = `${this.at + 1} / ${this.chosen.length}`
    this.count.title = now.title
    if (this.data.offline) history.replaceState(null, '', `#${this.at + 1}`)
    this.setAddress('step', this.at + 1)
    this.write()
    this.arrange()
  }

  speak() {
    if (this.desk) return this.closeDesk()
    this.notes = !this.notes
    this.write()
    this.arrange()
  }

  write() {
    this.root.classList.toggle('speaking', this.notes)
    const next = this.chosen[this.at + 1]
    const minutes = `${Math.floor((Date.now() - this.since) / 60000)} min`
    this.words.replaceChildren(
      ...(this.desk ? [] : [this.part]),
      make('p', { textContent: this.chosen[this.at]?.notes || 'No notes for this slide.' }),
      make('p', { className: 'next', textContent: next ? `${minutes}. Next: ${next.title}` : `${minutes}. Last slide.` }),
    )
  }

  // The same notes on a second screen, where the keys step the show as well; N, or closing it, ends them.
  openDesk() {
    this.desk = window.open('', 'notes', 'popup,width=960,height=540')
    if (!this.desk) {
      this.words.append(make('p', { textContent: 'The browser blocked the window: allow pop-ups for this page.' }))
      return
    }
    const { body } = this.desk.document
    this.desk.document.title = 'Speaker notes'
    const { color, backgroundColor: background, fontFamily } = getComputedStyle(this.root)
    Object.assign(body.style, { color, background, fontFamily, fontSize: '24px', lineHeight: 1.4, padding: '16px' })
    body.replaceChildren(this.words)
    body.onkeydown = (event) => this.press(event)
    this.desk.onpagehide = () => this.closeDesk()
    this.write()
    this.arrange()
  }

  closeDesk() {
    if (!this.desk) return
    const { desk } = this
    this.desk = null // at once: its window tells only later that it is gone
    this.notes = false
    this.root.insertBefore(this.words, this.remote)
    desk.close()
    this.write()
    this.arrange()
  }

  fill() {
    if (document.fullscreenElement) document.exitFullscreen()
    else this.root.requestFullscreen?.().catch(() => {}) // refused: a key in the window of notes does not count
  }

  get showKeys() {
    const keys = {
      Home: () => this.go(0), End: () => this.go(this.chosen.length - 1), Escape: () => this.leave(),
      n: () => this.speak(), o: () => this.lookOver(), f: () => this.fill(), b: () => this.root.classList.toggle('black'),
    } // prettier-ignore
    for (const key of BACK) keys[key] = () => this.go(this.at - 1)
    for (const key of NEXT) keys[key] = () => this.go(this.at + 1)
    return keys
  }

  // Enter and Space press the button of the slide in focus.
  get gridKeys() {
    const columns = getComputedStyle(this.list).gridTemplateColumns.split(' ').length
    const far = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -Infinity, End: Infinity }
    const keys = { Escape: () => this.leave(), o: () => this.show(this.at), f: () => this.fill() }
    for (const [key, by] of Object.entries(far)) keys[key] = () => this.focus(this.at + by)
    return keys
  }

  press(event) {
    const { key, target } = event
    if (this.root.dataset.mode === 'overview' || event.ctrlKey || event.metaKey || event.altKey) return
    if (target.closest?.('.remote, .notes button') && (key === ' ' || key === 'Enter')) return // a button chosen with the Tab key
    const keys = this.showing ? this.showKeys : this.gridKeys
    const name = key === ' ' && event.shiftKey ? 'Backspace' : key
    const act = keys[name] ?? keys[name.toLowerCase()]
    if (!act) return
    act()
    event.preventDefault()
    event.stopPropagation()
  }

  // --- the file ------------------------------------------------------------------------------------------------------

  async save() {
    const plotly = await (await fetch(this.data.plotly)).text()
    const link = make('a', { download: this.data.file, href: URL.createObjectURL(new Blob([this.writeFile(plotly)], { type: 'text/html' })) })
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), SAVED)
  }

  writeFile(plotly) {
    const slides = this.chosen.map(({ node, fitted, drawn, ...slide }) => slide)
    const data = { ...this.data, slides, chosen: slides.map((slide) => slide.id), offline: true, source: null }
    const quote = (text) => text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`)
    const policy = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'" // plotly compiles what draws points
    return [
      '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
      `<meta http-equiv="Content-Security-Policy" content="${policy}"><title>${quote(this.data.title)}</title>`,
      `<style>${this.data.colors}\n@page { size: 1920px 1080px; margin: 0; }\n${this.data.source.css}</style><script>${plotly}<\/script></head><body><div class="deck"></div>`,
      `<script type="module">${this.data.source.js.replace('export default ', '')}`,
      `mount({ data: ${JSON.stringify(data).replaceAll('<', '\\u003c')}, parentElement: document.body })<\/script></body></html>`,
    ].join('\n')
  }
}
