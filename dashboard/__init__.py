"""The Streamlit pages on results/. Home.py is the entry."""
