const NARROW = 768 // pixels, where Streamlit lays the sidebar over the page

export default function({ data, setTriggerValue }) {
  const seen = document.documentElement.dataset // outlives this component, which each page mounts anew
  const sidebar = document.querySelector('[data-testid=stSidebar][data-collapsed=false]')
  if (seen.page && seen.page !== data.page && window.innerWidth <= NARROW) {
    sidebar?.querySelector('[data-testid=stSidebarCollapseButton] button')?.click()
  }
  seen.page = data.page
  // Streamlit tells its server of another theme only when it runs next, and charts and links would keep the old one's colours.
  const now = getComputedStyle(document.querySelector('[data-testid=stApp]')).colorScheme
  if (now === data.scheme) seen.scheme = ''
  else if (seen.scheme !== now) {
    seen.scheme = now  // told once: where the server knows no scheme it would draw without end
    setTriggerValue('scheme', now)
  }
}
