// Guess like the model: an image, a guess by key, then the truth, the models and what people voted; scores after each round.
const ROUND = 10 // images

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector('.quiz')
  if (root.quiz?.name !== data.name) {
    root.quiz?.stop()
    root.quiz = new Quiz(root, data)
  }
  return () => { if (!root.isConnected) root.quiz?.stop() } // Streamlit calls this too for an answer that the next one overtook
}

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties)
  node.append(...children)
  return node
}

class Quiz {
  constructor(root, data) {
    Object.assign(this, { root, data, name: data.name, first: 0, guesses: [] })
    const leaving = new AbortController()
    this.stop = () => {
      leaving.abort()
      root.quiz = null
    }
    window.addEventListener('keydown', (event) => this.press(event), { capture: true, signal: leaving.signal })
    if (document.activeElement === document.body) root.focus({ preventScroll: true })
    this.ask()
  }

  get items() {
    return this.data.items.slice(this.first, this.first + ROUND)
  }

  get item() {
    return this.items[this.at]
  }

  get at() {
    return this.guesses.length - (this.revealed ? 1 : 0)
  }

  get voting() {
    return this.data.asked !== null
  }

  // What a key means now: [key, text, what it does].
  get choices() {
    if (this.voting) return [['y', 'Yes, that is what it shows', () => this.guess(true)], ['n', 'No, it is something else', () => this.guess(false)]] // prettier-ignore
    return this.data.classes.map((name, i) => [String((i + 1) % 10), name, () => this.guess(i)])
  }

  correct(guess, item) {
    return this.voting ? guess === (item.models[this.data.asked].predicted === item.label) : guess === item.label
  }

  button([key, text, act], className = '') {
    return make('button', { type: 'button', className, onclick: act }, make('kbd', { textContent: key === ' ' ? 'Space' : key.toUpperCase() }), text)
  }

  show(...nodes) {
    this.root.querySelector('.talk').replaceChildren(...nodes)
    const done = this.guesses.filter((guess, i) => this.correct(guess, this.items[i])).length
    const progress = `Image ${Math.min(this.at + 1, this.items.length)} of ${this.items.length}; the class has ${done} of ${this.guesses.length} correct.`
    this.root.querySelector('.progress').replaceChildren(progress, make('span', { className: 'keys', textContent: ' F: full screen' }))
  }

  ask() {
    this.revealed = false
    const picture = this.root.querySelector('img')
    picture.src = this.item.uri
    picture.alt = `test image ${this.item.index}, 32 by 32 pixels, enlarged`
    const model = this.voting && this.item.models[this.data.asked]
    const question = model ? `${model.label} predicts ${this.data.classes[model.predicted]}. Is it correct?` : 'What is it?'
    const list = make('div', { className: 'choices' }, ...this.choices.map((choice) => this.button(choice)))
    this.acts = this.choices
    this.show(make('h3', { textContent: question }), list)
  }

  guess(value) {
    this.guesses.push(value)
    this.revealed = true
    const { item } = this
    const { classes } = this.data
    const mark = (ok) => (ok ? '✓' : '✗')
    const own = this.correct(value, item)
    const said = this.voting ? (value ? 'yes' : 'no') : classes[value]
    const rows = Object.values(item.models).map(({ label, predicted, confidence }) =>
      make('tr', {}, make('th', { textContent: label }), make('td', { textContent: `${mark(predicted === item.label)} ${classes[predicted]}` }),
        make('td', { className: 'wide', textContent: `${(100 * confidence).toFixed(0)} % sure` }))) // prettier-ignore
    const votes = (item.people ?? []).map((share, i) => [share, classes[i]]).filter(([share]) => share > 0).sort((a, b) => b[0] - a[0]) // prettier-ignore
    const people = votes.slice(0, 4).map(([share, name]) =>
      make('tr', {}, make('th', { textContent: 'People' }), make('td', { textContent: `${name} ${(100 * share).toFixed(0)} %` }),
        make('td', { className: 'wide' }, make('span', { className: 'bar', style: `width:${100 * share}%` })))) // prettier-ignore
    const last = this.guesses.length === this.items.length
    this.acts = [[' ', last ? 'Score' : 'Next image', () => (last ? this.score() : this.ask())]]
    this.acts.push(['Enter', '', this.acts[0][2]], ['ArrowRight', '', this.acts[0][2]], ['PageDown', '', this.acts[0][2]])
    this.show(
      make('p', { className: 'verdict', role: 'status', textContent: `Answer: ${classes[item.label]}. The class said ${said}: ${mark(own)}` }),
      make('table', {}, ...rows, ...people),
      this.button(this.acts[0], 'go'),
    )
  }

  score() {
    const n = this.items.length
    const { whole, picked } = this.data
    const lines = [[this.voting ? 'The class, judging' : 'The class', this.guesses.filter((guess, i) => this.correct(guess, this.items[i])).length]]
    for (const name of Object.keys(this.items[0].models)) {
      lines.push([this.items[0].models[name].label, this.items.filter((item) => item.models[name].predicted === item.label).length, whole[name]])
    }
    if (this.items[0].people) lines.push(['People, on average', this.items.reduce((sum, item) => sum + item.people[item.label], 0), whole.people])
    lines.sort((a, b) => b[1] - a[1])
    const rows = lines.map(([name, correct, accuracy]) =>
      make('tr', {}, make('th', { textContent: name }), make('td', { textContent: `${+correct.toFixed(1)} of ${n}` }),
        make('td', { className: 'wide' }, make('span', { className: 'bar', style: `width:${(100 * correct) / n}%` })),
        make('td', { textContent: accuracy ? `${(100 * accuracy).toFixed(2)} %` : '' }))) // prettier-ignore
    const head = ['', 'this round', '', 'whole test set'].map((text) => make('th', { textContent: text }))
    const words = `These images were picked: ${picked}. So a score is no accuracy; that stands on the right, over all ${this.data.n.toLocaleString('en')} test images.`
    const more = this.first + ROUND < this.data.items.length
    this.acts = [['r', more ? 'Another round' : 'From the start', () => this.again(more ? this.first + ROUND : 0)]]
    this.show(make('h3', { textContent: 'Who was correct how often?' }), make('table', {}, make('tr', {}, ...head), ...rows), make('p', { textContent: words }), this.button(this.acts[0], 'go'))
  }

  again(first) {
    this.first = first
    this.guesses = []
    this.ask()
  }

  press(event) {
    const { key, target } = event
    const typing = target.closest?.('input, textarea, select, [contenteditable]')
    const elsewhere = event.composedPath().includes(this.root) ? null : target.closest?.('button, a, [role=radio]')
    const theirs = elsewhere?.matches('[role=radio]') ? [' ', 'Enter', 'ArrowRight'] : [' ', 'Enter']
    if (event.ctrlKey || event.metaKey || event.altKey || typing || (elsewhere && theirs.includes(key))) return
    if (key.toLowerCase() === 'f') {
      if (document.fullscreenElement) document.exitFullscreen()
      else this.root.requestFullscreen?.().catch(() => {})
    } else {
      const act = this.acts.find(([wanted]) => wanted.toLowerCase() === key.toLowerCase())
      if (!act) return
      act[2]()
      this.root.focus({ preventScroll: true })
    }
    event.preventDefault()
    event.stopPropagation()
  }
}
