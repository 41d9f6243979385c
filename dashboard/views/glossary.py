"""Glossary: what the words of statistics mean; every page explains them under the pointer too."""

import streamlit as st

from dashboard.glossary import WORDS

st.title("Glossary")
st.caption("Every page underlines these words with dots and explains them under the pointer.")
st.markdown("\n".join(f"- **{word.name}**: {word.meaning}" for word in sorted(WORDS, key=lambda word: word.name.lower())))
