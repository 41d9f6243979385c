// Tells the server again what it has not answered: what is said while it draws may go unheard. It goes before the scripts that call it.

const INSIST = 2000  // milliseconds

// Calls `again`, which says whether there still is something to tell, until it says no or on.insisting is cleared; not while the
// server draws: that would only begin the drawing anew.
// biome-ignore lint/correctness/noUnusedVariables: called by the scripts it goes before
function insist(on, again) {
  clearTimeout(on.insisting)
  on.insisting = setTimeout(() => {
    const draws = document.querySelector('[data-testid=stApp][data-test-script-state=running]')
    if (draws || again()) insist(on, again)
  }, INSIST)
}

