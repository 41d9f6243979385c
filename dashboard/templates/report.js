const dark = matchMedia('(prefers-color-scheme: dark)')
const print = matchMedia('print')

function draw() {
  CHARTS.forEach((pair, i) => {
    const page = Number(dark.matches && !print.matches)
    Plotly.react('chart' + i, pair[page].data, { ...LOOKS[page], ...pair[page].layout }, { responsive: true, displaylogo: false })
  })
}

dark.addEventListener('change', draw)
print.addEventListener('change', draw)
draw()
