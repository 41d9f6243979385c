const NARROW = 768 // pixels, where Streamlit lays the sidebar over the page

export default function({ data }) {
  const seen = document.documentElement.dataset // outlives this component, which each page mounts anew
  const sidebar = document.querySelector('[data-testid=stSidebar][data-collapsed=false]')
  if (seen.page && seen.page !== data.page && window.innerWidth <= NARROW) {
    sidebar?.querySelector('[data-testid=stSidebarCollapseButton] button')?.click()
  }
  seen.page = data.page
}
