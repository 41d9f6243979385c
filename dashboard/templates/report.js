const dark = matchMedia('(prefers-color-scheme: dark)')
const print = matchMedia('print')

function draw() {
  CHARTS.forEach((pair, i) => {
    const page = Number(dark.matches && !print.matches)
    const place = document.getElementById('chart' + i)
    const width = print.matches ? place.clientWidth : undefined // of the paper, which Plotly does not measure in time
    Plotly.react(place, pair[page].data, { ...LOOKS[page], ...pair[page].layout, width }, { responsive: true, displaylogo: false })
  })
}

dark.addEventListener('change', draw)
print.addEventListener('change', () => {
  draw()
  if (print.matches) return
  for (const i of CHARTS.keys()) Plotly.Plots.resize('chart' + i) // back from the paper's width
})
draw()
