const dark = matchMedia('(prefers-color-scheme: dark)')
const print = matchMedia('print')

function draw() {
  CHARTS.forEach((pair, i) => {
    const figure = pair[Number(dark.matches && !print.matches)]
    Plotly.react('chart' + i, figure.data, figure.layout, { responsive: true, displaylogo: false })
  })
}

dark.addEventListener('change', draw)
print.addEventListener('change', draw)
draw()
