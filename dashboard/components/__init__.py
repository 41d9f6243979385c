"""Widgets that more than one page uses; a custom component is a folder with its own .py, .js and .css."""

from dashboard.components.charts import offer_csv, show_figure, show_findings, surface
from dashboard.components.choices import available_models, filter_images, pick_classes, pick_model, pick_models, pick_one, pick_run
from dashboard.components.gallery import image_gallery, paged_gallery
from dashboard.components.lightbox import image_detail
from dashboard.components.weights import require_weights, show_branches

__all__ = [
    "available_models",
    "filter_images",
    "image_detail",
    "image_gallery",
    "offer_csv",
    "paged_gallery",
    "pick_classes",
    "pick_model",
    "pick_models",
    "pick_one",
    "pick_run",
    "require_weights",
    "show_branches",
    "show_figure",
    "show_findings",
    "surface",
]
