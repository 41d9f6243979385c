"""The dashboard: reads results/, shows them."""
