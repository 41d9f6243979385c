"""Widgets that more than one page uses; a custom component is a folder with its own .py, .js and .css."""
# ruff: noqa: F401 (names for others)

from dashboard.components.charts import (
    color_links,
    offer_csv,
    show_figure,
    show_findings,
    show_findings_by_theme,
    show_headline,
    show_table,
    surface,
)
from dashboard.components.choices import available_models, other_models, pick_classes, pick_model, pick_models, pick_one, pick_run
from dashboard.components.class_curves import show_class_curves, show_threshold
from dashboard.components.deck import show_deck
from dashboard.components.filter_bar import change_filter, choose_images, filter_images, name_selection
from dashboard.components.gallery import image_gallery, images_a_page, paged_gallery
from dashboard.components.glossary import explain_words
from dashboard.components.lightbox import image_detail
from dashboard.components.matrix import small_matrix
from dashboard.components.picture import pick_picture
from dashboard.components.quiz import ROUNDS, draw_images, play_quiz
from dashboard.components.section import section
from dashboard.components.share import share_images
from dashboard.components.sidebar import follow_browser
from dashboard.components.tags import tag_store, tagged_images
from dashboard.components.weak_slices import show_weak_slices
from dashboard.components.weights import can_compute, require_weights, say_blank_maps, say_places, show_branches, show_stored_maps
