const dark = matchMedia('(prefers-color-scheme: dark)')
const print = matchMedia('print')

function draw() {
  CHARTS.forEach((pair, i) => {
    const page = Number(dark.matches && !print.matches)
    const place = document.getElementById('chart' + i)
    const width = print.matches ? place.clientWidth : undefined // of the paper, which Plotly does not measure in time
    Plotly.react(place, pair[page].data, { ...LOOKS[page], ...pair[page].layout, width }, { responsive: true, displaylogo: false })
    if (!print.matches) Plotly.Plots.resize(place)
  })
}

dark.addEventListener('change', draw)
print.addEventListener('change', draw)
draw()
