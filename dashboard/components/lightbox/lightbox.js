// One image, large, in a dialog over the page: what is at hand is drawn at once, the rest comes from the server.
// Galleries tell what they show ("gallery" events); the server is asked for an image and its two neighbours ahead of time.

const SETTLED = 250  // milliseconds on one image before the models are asked where they look
const AGAIN = 700  // milliseconds until they are asked again for what was not computed yet

function element(tag, className, text, ...children) {
  const made = document.createElement(tag)
  if (className) made.className = className
  if (text) made.textContent = text
  made.append(...children)
  return made
}

function picture(uri, alt) {
  const image = element('img', 'thumb')
  image.src = uri
  image.alt = alt
  return image
}

function writeAddress(index, entry = false) {  // the server leaves this to us: an entry in the history for the dialog, none an image
  const url = new URL(location.href)
  if (index === null) url.searchParams.delete('image')
  else url.searchParams.set('image', index)
  url.searchParams.sort()  // as the server would write it
  if (entry) history.pushState({ ...history.state, lightbox: true }, '', url)
  else if (url.href !== location.href) history.replaceState(history.state, '', url)
}

class Lightbox {
  constructor(root) {
    this.root = root
    this.dialog = root.querySelector('dialog')
    this.lists = new Map()  // of each gallery: what it shows
    this.details = new Map()  // index -> what the server says of it
    this.added = new Map()  // index -> what became of it on the way to the deck
    this.current = null  // the index shown; null: closed
    this.entry = false  // has the open dialog an entry in the history, so that Back closes it?
    this.sent = null  // number of the last image opened or closed here; what the server says of an earlier one is no order
    this.asked = null  // what the server was told last, until it answers
    this.turned = null  // the page that was left and the way, until the next one is there
    this.left = null  // the index closed last, until the visitor does something else
    const asking = root.querySelector('.ask')
    asking.onsubmit = (event) => event.preventDefault()
    asking.onchange = () => {  // Enter, too, or leaving the box
      const { value, valueAsNumber } = asking.elements.index
      if (!value || !asking.reportValidity()) return
      this.open(valueAsNumber)
      asking.reset()
    }
    const on = (name, action) => { root.querySelector(name).onclick = action }
    on('.before', () => this.step(-1))
    on('.after', () => this.step(1))
    on('.close', () => this.dialog.close())
    this.dialog.onclose = () => this.closed()
    this.dialog.onclick = (event) => { if (event.target === this.dialog) this.dialog.close() }
    this.leaving = new AbortController()
    const { signal } = this.leaving
    const press = (event) => {  // wherever the focus is: Streamlit takes it away where it draws the page anew
      this.left = null
      if (this.current === null) return
      event.stopPropagation()  // the page's own keys rest
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
      if (!by || event.ctrlKey || event.metaKey || event.altKey || event.composedPath()[0].matches?.('input, textarea')) return
      event.preventDefault()
      this.step(by)
    }
    window.addEventListener('keydown', press, { capture: true, signal })
    window.addEventListener('pointerdown', () => { this.left = null }, { capture: true, signal })
    window.addEventListener('popstate', (event) => {  // Back from the dialog, or our own from its end: nothing for the server to draw
      if (this.returning) {
        this.returning = false
        writeAddress(this.current)  // of the next image, where one was opened meanwhile
      } else if (this.entry) {
        this.entry = false
        if (this.current !== null) this.dialog.close()
      } else return
      event.stopImmediatePropagation()
    }, { capture: true, signal })
    document.addEventListener('gallery', ({ detail }) => {
      detail.heard = true
      this.lists.set(detail.key, detail)
      if (detail.open !== null) this.open(detail.open, detail.key)
      else if (this.turned?.key === detail.key && this.turned.page !== detail.page) {
        const items = detail.items
        this.open(items[this.turned.by > 0 ? 0 : items.length - 1].index, detail.key)
        this.turned = null
      } else if (this.current !== null) this.draw()
      else if (this.left !== null && document.activeElement === document.body) detail.focus(this.left)  // drawn anew, without the focus
    }, { signal })
    document.addEventListener('gallery-gone', ({ detail: { key, grid } }) => {
      if (this.lists.get(key)?.grid !== grid) return  // another took its place
      this.lists.delete(key)
      if (this.turned?.key === key) this.turned = null
      document.dispatchEvent(new CustomEvent('gallery-call'))  // the next one of its key may have spoken before
    }, { signal })
    this.tagged = null  // what the visitor tagged, once the page's store of it has spoken
    document.addEventListener('tags', ({ detail }) => {
      this.tagged = detail
      if (this.current !== null) this.drawTags()
    }, { signal })
    const form = root.querySelector('.tags')
    form.onsubmit = (event) => event.preventDefault()
    form.onchange = () => {
      const tags = form.elements.tags.value.split(',').map((tag) => tag.trim()).filter(Boolean)
      document.dispatchEvent(new CustomEvent('tags-set', { detail: { index: this.current, tags, note: form.elements.note.value } }))
    }
  }

  drawTags() {
    const form = this.root.querySelector('.tags')
    form.hidden = this.tagged === null
    const own = this.tagged?.[this.current] ?? { tags: [], note: '' }
    if (this.root.activeElement !== form.elements.tags) form.elements.tags.value = own.tags.join(', ')
    if (this.root.activeElement !== form.elements.note) form.elements.note.value = own.note
    const names = [...new Set(Object.values(this.tagged ?? {}).flatMap((one) => one.tags))]
    form.querySelector('datalist').replaceChildren(...names.map((name) => {
      const option = document.createElement('option')
      option.value = name
      return option
    }))
  }

  list() {
    const holds = (list) => list?.items.some((item) => item.index === this.current)
    return [this.lists.get(this.key), ...this.lists.values()].find(holds)
  }

  open(index, key) {
    if (this.root.activeElement?.matches('.tags input')) this.root.activeElement.blur()  // what is typed belongs to the image before
    this.current = index
    this.key = key ?? this.key
    this.sent = (this.sent ?? 0) + 1
    if (!this.dialog.open && new URL(location.href).searchParams.get('image') !== String(index)) this.entry = true
    writeAddress(index, this.entry && !this.dialog.open)
    if (!this.dialog.open) this.dialog.showModal()
    this.draw()
    this.ask()
  }

  step(by) {
    const list = this.list()
    if (!list) return
    const next = list.items.findIndex((item) => item.index === this.current) + by
    if (list.items[next]) this.open(list.items[next].index, list.key)
    else if (list.page + by >= 1 && list.page + by <= list.pages && !this.turned) {
      clearTimeout(this.waiting)
      this.turned = { key: list.key, page: list.page, by }
      this.turn()
      this.insist()
    }
  }

  turn() {
    this.lists.get(this.turned.key)?.turn(this.turned.page + this.turned.by)
  }

  tell(asked) {
    this.asked = { ...asked, number: this.sent, time: Date.now() }
    this.trigger('asked', this.asked)
    this.insist()
  }

  insist() {
    insist(this, () => {
      if (this.asked) this.trigger('asked', { ...this.asked, again: true })
      if (this.turned) this.turn()
      return this.asked || this.turned
    })
  }

  ask() {
    clearTimeout(this.waiting)
    const index = this.current
    const items = this.list()?.items ?? []
    const position = items.findIndex((item) => item.index === index)
    const ahead = [items[position + 1], items[position - 1]].filter((item) => item && position >= 0).map((item) => item.index)
    const request = (look) => {
      this.tell({ index, ahead: ahead.filter((other) => !this.details.has(other)), look })
    }
    this.look = () => {
      const looks = this.details.get(index)?.looks
      if (index === this.current && (!looks || looks.again)) request(true)
    }
    this.waiting = setTimeout(() => {
      request(false)
      this.waiting = setTimeout(this.look, SETTLED)
    }, this.details.has(index) ? 120 : 0)
  }

  closed() {
    const form = this.root.querySelector('.tags')
    if (!form.hidden) form.onchange() // what is typed belongs to the image that closes
    writeAddress(null)
    this.returning = this.entry && Boolean(history.state?.lightbox)  // the server may have put another entry on top of ours
    if (this.returning) history.back()
    this.entry = false
    clearTimeout(this.waiting)
    const list = this.list()
    const index = this.current
    this.current = null
    this.turned = null
    this.left = index
    this.sent = (this.sent ?? 0) + 1
    this.tell({ index: null, ahead: [], look: false, was: index })
    list?.focus(index)
  }

  update(data, trigger) {
    this.trigger = trigger
    this.sent ??= data.number
    if (this.asked?.time === data.time) {
      this.asked = null
      writeAddress(this.current)  // the server may have written it while it had not heard
    }
    const box = this.root.querySelector('.ask input')
    box.max = data.last
    box.placeholder = `0–${data.last}`
    if (this.run !== data.run) {
      this.details.clear()
      this.added.clear()
    }
    this.run = data.run
    for (const one of data.details) this.details.set(one.index, { ...this.details.get(one.index), ...one })
    if (data.details.some((one) => one.index === this.current && one.looks?.again)) this.waiting = setTimeout(this.look, AGAIN)
    if (data.number >= this.sent && data.open !== this.current) {
      if (data.open === null) this.dialog.close()
      else this.open(data.open)
    } else if (this.current !== null) this.draw()
  }

  addToDeck({ index, true: name, models, uri, alt, looks }) {
    const says = models.map(({ label, top: [first] }) => `${label}: ${first.name} ${(100 * first.share).toFixed(0)} %`)
    const seen = (looks?.pictures ?? []).map((one) => ({ uri: one.uri, alt: one.text, text: `${one.text}, Grad-CAM` }))
    const images = [{ uri, alt, text: `true class ${name}` }, ...seen]
    return keepSlide({ title: `Test image ${index}: ${/^[aeiou]/.test(name) ? 'an' : 'a'} ${name}?`, text: `${says.join('; ')}.`, run: this.run, images })
  }

  draw() {
    const list = this.list()
    const position = list ? list.items.findIndex((item) => item.index === this.current) : -1
    const item = list?.items[position]
    const detail = this.details.get(this.current)
    this.drawTags()
    const set = (name, ...children) => this.root.querySelector(name).replaceChildren(...children)
    const place = position < 0 ? '' : `, ${(list.first + position + 1).toLocaleString('en')} of ${list.total.toLocaleString('en')}`
    set('.title', `Image ${this.current}${place}`)
    this.dialog.dataset.index = this.current
    this.dialog.dataset.whole = Boolean(detail)
    this.root.querySelector('.before').disabled = !list || (position === 0 && list.page === 1)
    this.root.querySelector('.after').disabled = !list || (position === list.items.length - 1 && list.page === list.pages)
    const large = this.root.querySelector('.large')
    large.setAttribute('aria-label', detail?.alt ?? item?.alt ?? `image ${this.current}`)
    if (item) {
      const rows = Math.ceil(list.items.length / list.columns)
      const share = (at, n) => (n > 1 ? `${(100 * at) / (n - 1)}%` : '0')
      large.style.backgroundImage = list.sheet
      large.style.backgroundSize = `${100 * list.columns}% ${100 * rows}%`
      large.style.backgroundPosition = `${share(position % list.columns, list.columns)} ${share(Math.floor(position / list.columns), rows)}`
    } else if (detail) large.style.background = `url(${detail.uri}) 0 0 / 100% 100%`
    else large.style.background = 'none'
    if (!detail) {
      set('.said', element('p', '', item?.alt ?? ''))
      for (const name of ['.bars', '.looks', '.nearest', '.links']) set(name)
      return
    }
    set('.said',
      element('p', '', 'True class: ', element('b', '', detail.true)),
      ...detail.marks.map((text) => element('p', 'mark', text)),
      ...(detail.people ? [element('p', 'faint', detail.people)] : []))
    set('.bars', ...detail.models.flatMap((model) => [
      element('h3', '', `${model.glyph} ${model.label}`),
      ...model.top.map(({ name, share, correct }) => {
        const bar = element('span', 'bar')
        bar.style.setProperty('--share', `${100 * share}%`)
        bar.style.setProperty('--color', model.color)
        return element('div', correct ? 'row correct' : 'row', '',
          element('span', 'name', name + (correct ? ' (true)' : '')), bar, element('span', 'number', `${(100 * share).toFixed(1)} %`))
      }),
    ]))
    set('.looks', element('h3', '', 'Where they look (Grad-CAM for the predicted class)'),
      ...(detail.looks?.pictures ?? []).map(({ uri, text }) => element('figure', '', '', picture(uri, text), element('figcaption', '', text))),
      ...(detail.looks && !detail.looks.again && !detail.looks.why ? [] : [element('p', 'faint', detail.looks?.why ?? 'The models look …')]))
    set('.nearest', element('h3', '', detail.nearest.title), ...detail.nearest.images.map(({ index, uri, alt }) => {
      const button = element('button', '', '', picture(uri, alt))
      button.type = 'button'
      button.title = alt
      button.setAttribute('aria-label', `image ${index}: ${alt}`)
      button.onclick = () => this.open(index)
      return button
    }))
    const why = element('a', '', 'Why? See its attributions')
    why.href = detail.why
    why.onclick = (event) => {  // the page's own link, where there is one, opens without loading everything anew
      const own = [...document.querySelectorAll('[data-testid="stPageLink-NavLink"]')].find((link) => link.href === why.href)
      if (!own || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return
      event.preventDefault()
      own.click()
    }
    const add = element('button', '', this.added.get(this.current) ?? 'Add to deck')
    add.type = 'button'
    add.title = 'Add to the slides of Present, in this browser'
    add.onclick = () => {
      add.textContent = this.addToDeck(detail)
      this.added.set(detail.index, add.textContent)
    }
    set('.links', why, add)
  }
}

export default function({ data, parentElement, setTriggerValue }) {
  const kept = parentElement.host ?? parentElement
  const first = !kept.lightbox
  kept.lightbox ??= new Lightbox(parentElement)
  kept.lightbox.update(data, setTriggerValue)
  kept.lightbox.dialog.dataset.ready = 'true'
  if (first) for (const call of ['gallery-call', 'tags-call']) document.dispatchEvent(new CustomEvent(call))
  return () => {
    if (kept.isConnected) return  // Streamlit calls this too for an answer that the next one overtook
    kept.lightbox.leaving.abort()
    clearTimeout(kept.lightbox.waiting)
    clearTimeout(kept.lightbox.insisting)
    kept.lightbox.dialog.onclose = null
    kept.lightbox = null
  }
}
