// A picture with the square that is cut out of it, dragged by a pointer or moved by keys; lengths are pixels of the picture as it is sent.
const STEP = 0.02 // of the picture's shorter side, a key
const PAUSE = 300 // milliseconds without a key, after which the server hears of it
const STILL = 4 // pixels a click may wander

const clamp = (value, low, high) => Math.min(Math.max(value, low), high)

export default function ({ data, parentElement, setTriggerValue }) {
  const whole = parentElement.querySelector('.whole')
  const square = parentElement.querySelector('.crop')
  whole.moves ??= data.moves
  if (whole.dragging || whole.telling || data.moves < whole.moves) return // what the visitor does now is newer than this answer
  clearTimeout(whole.insisting)
  const { width, height, smallest } = data
  const shorter = Math.min(width, height)
  let [left, top, right] = data.box
  let size = right - left

  function show() {
    const place = { left: left / width, top: top / height, width: size / width, height: size / height }
    for (const [name, share] of Object.entries(place)) square.style[name] = `${100 * share}%`
  }

  function put(wanted, x, y) {
    size = clamp(wanted, smallest, shorter)
    left = clamp(x, 0, width - size)
    top = clamp(y, 0, height - size)
    show()
  }

  // Between two corners, as far as there is room.
  function draw(from, to) {
    const [dx, dy] = [to.x - from.x, to.y - from.y]
    const room = Math.min(dx < 0 ? from.x : width - from.x, dy < 0 ? from.y : height - from.y)
    const wanted = clamp(Math.max(Math.abs(dx), Math.abs(dy)), smallest, Math.max(room, smallest))
    put(wanted, dx < 0 ? from.x - wanted : from.x, dy < 0 ? from.y - wanted : from.y)
  }

  function tell() {
    whole.telling = null
    whole.moves += 1
    const share = (place, length) => (length > size ? place / (length - size) : 0.5)
    const moved = [size / shorter, share(left, width), share(top, height), whole.moves]
    const say = () => {
      if (whole.isConnected) setTriggerValue('moved', moved)
      return whole.isConnected
    }
    say()
    insist(whole, say)
  }

  function point(event) {
    const box = whole.getBoundingClientRect()
    return { x: ((event.clientX - box.left) * width) / box.width, y: ((event.clientY - box.top) * height) / box.height }
  }

  whole.onpointerdown = (event) => {
    if (event.button) return
    event.preventDefault()
    square.focus({ preventScroll: true })
    const start = point(event)
    const corner = event.target.className === 'corner' && { x: left, y: top }
    const held = event.target === square && { x: start.x - left, y: start.y - top }
    whole.setPointerCapture(event.pointerId)
    whole.onpointermove = (moved) => {
      const now = point(moved)
      if (!whole.dragging && Math.hypot(moved.clientX - event.clientX, moved.clientY - event.clientY) < STILL) return
      whole.dragging = true
      if (held) put(size, now.x - held.x, now.y - held.y)
      else draw(corner || start, now)
    }
    const before = [size, left, top]
    whole.onpointerup = whole.onpointercancel = ({ type }) => {
      whole.onpointermove = whole.onpointerup = whole.onpointercancel = null
      if (whole.dragging && type === 'pointercancel') put(...before) // a finger that scrolls the page instead
      else if (whole.dragging) tell()
      whole.dragging = false
    }
  }

  square.onkeydown = (event) => {
    const step = STEP * shorter
    const moves = { ArrowLeft: [-step, 0, 0], ArrowRight: [step, 0, 0], ArrowUp: [0, -step, 0], ArrowDown: [0, step, 0], '+': [-step, -step, 2 * step], '-': [step, step, -2 * step] } // prettier-ignore
    const move = moves[event.key]
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    event.stopPropagation()
    put(size + move[2], left + move[0], top + move[1])
    clearTimeout(whole.telling)
    whole.telling = setTimeout(tell, PAUSE)
  }

  const image = whole.querySelector('img')
  image.src = data.uri
  image.alt = parentElement.querySelector('figcaption').textContent = data.label
  parentElement.querySelector('.seen').src = data.seen
  show()
}
