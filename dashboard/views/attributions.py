"""Attributions."""

import streamlit as st

st.title("Attributions")
