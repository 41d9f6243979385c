"""Quiz: guess like the model. The class votes or picks, then sees the truth, the models and what people voted."""

import streamlit as st

from dashboard import address, components, data, theme

run, _ = st.session_state["current"]
predictions = data.load_predictions(run)

st.title("Guess like the model")
with st.container(horizontal=True, vertical_alignment="bottom"):
    asks = {"class": "What is it?", "model": "Is the model correct?"}
    ask = components.pick_one("Question", list(asks), "ask", asks.get)
    model = components.pick_model(run, label="Predictions of")
with st.container(horizontal=True, vertical_alignment="bottom"):
    difficulty = components.pick_one("Difficulty", list(components.ROUNDS), "difficulty")
    true = components.pick_classes("Classes", "true")
    seed = address.pick_number(
        "Draw", 1, 999, key="draw", default=1, width=140, help="Another number draws other images; a link repeats them"
    )
chosen = components.draw_images(predictions, difficulty, true, model, seed)
picked = components.ROUNDS[difficulty][1].format(theme.label(model))
st.caption(f"{len(chosen)} image{'s' * (len(chosen) != 1)} of 32×32 pixels, enlarged, in rounds of ten: {picked}.")
if len(chosen):
    name = f"{run.name} {ask} {model} {difficulty} {true} {seed}"
    components.play_quiz(run, chosen, model if ask == "model" else None, picked, name)
else:
    st.info("No image fits: choose another difficulty or more classes.")
