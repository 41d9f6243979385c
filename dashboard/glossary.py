"""The words of statistics that pages use: what each means, in a sentence or two, and where it comes from.

A word is found where it stands as written here, or in the other forms it names; every page then explains it under the pointer.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    name: str
    meaning: str
    forms: tuple[str, ...] = ()  # other spellings


WORDS = (
    Word("McNemar", "A test for two models on the same images: of those that only one predicts correctly, does one model get more than "
         "chance would give? Exact: from the binomial distribution (McNemar 1947)."),
    Word("Holm", "A correction for several tests at once, so that the chance of one false discovery or more stays at 5 %: the smallest p "
         "is multiplied by their number, the next by one less, and so on (Holm 1979)."),
    Word("Wilson", "An interval of a share, such as an accuracy, that stays within 0 and 100 % and holds for few images too (Wilson 1927).",
         ("Wilson intervals",)),
    Word("bootstrap", "An interval from drawing the test images anew, with replacement, many times and looking how far the result moves "
         "(Efron 1979). Paired: both models see the same draw."),
    Word("95 % interval", "Made so that in 95 of 100 repetitions it holds the true value. An interval of a single difference that leaves "
         "out zero shows a difference; among many, some do by chance.", ("95 % intervals",)),
    Word("points", "Percentage points: 94 % against 93 % is one point more."),
    Word("p", "How often a difference this large, or larger, would come about if there were none. Below 0.05 it counts as shown; above, "
         "nothing is shown, not that there is none.", ("p < 0.001", "p (Holm)")),
    Word("standard deviation", "How far values lie from their mean, typically."),
    Word("Mann-Whitney", "A test whether values of one group tend to be larger than another's, by their ranks (Mann & Whitney 1947)."),
    Word("rank correlation", "Likeness of two orders: 1 the same, 0 unrelated, −1 reversed (Spearman 1904)."),
    Word("precision", "Of the images a model calls a cat, the share that are cats."),
    Word("recall", "Of the cats, the share a model calls cats.", ("Recall",)),
    Word("macro F1", "The mean over classes of F1, which is high only where precision and recall both are.", ("F1", "f1")),
    Word("ROC", "The share of cats found over the share of other images wrongly called cats, as the threshold falls.", ("ROC curve",)),
    Word("AUC", "The area under a ROC or precision–recall curve: 1 is perfect, and under a ROC curve 0.5 is guessing."),
    Word("NLL", "Negative log-likelihood, in nats: minus the logarithm of the probability given to the true class. Low is good; a sure "
         "error costs most.", ("Negative log-likelihood", "negative log-likelihood")),
    Word("Brier", "The squared distance between the probabilities and the truth, 0 (best) to 2 (Brier 1950)."),
    Word("AURC", "Area under the risk–coverage curve: the error rate among the most confident predictions, averaged over how many are "
         "kept. Low is good: few errors, and those where the model doubts itself (Geifman et al. 2019)."),
    Word("branch losses", "Auxiliary losses: within the fusion each network has a linear head of its own that is trained too, so that "
         "neither network is neglected (after Wang et al. 2020).", ("Branch losses",)),
    Word("calibration error", "ECE: the gap between how confident and how often correct a model is, averaged over bins of confidence.",
         ("Calibration error",)),
    Word("temperature", "One number that divides all logits: it changes how confident a model is, not what it predicts (Guo et al. 2017).",
         ("Temperature", "fitted temperature")),
    Word("label smoothing", "Training towards 0.91 for the true class and 0.01 for each other, not 1 and 0: it keeps models from being "
         "overconfident (Szegedy et al. 2016).",
         ("Label smoothing",)),
    Word("logits", "A model's scores before they become probabilities; only their differences count.", ("logit",)),
    Word("MACs", "Multiply–accumulate operations for one image: a measure of work that is the same on every machine."),
    Word("latency", "The time from one image to its prediction.", ("Latency",)),
    Word("ensemble", "The mean of the two baselines' probabilities: no training beyond theirs.", ("Ensemble",)),
    Word("oracle", "Correct where either baseline is: what a perfect choice between the two would reach.", ("Oracle",)),
    Word("linear probe", "A linear classifier on the features of a network that is not trained further: what they hold as they are."),
    Word("t-SNE", "A map that keeps images with like features close; distances between far groups mean nothing "
         "(van der Maaten & Hinton 2008)."),
    Word("Grad-CAM", "The last convolution's channels, summed, each weighted by the score's mean gradient over it; only what speaks for "
         "the class is kept (Selvaraju et al. 2017)."),
    Word("Integrated Gradients", "Each pixel's change from the mean colour to this image, times its mean gradient on the way; they add "
         "up to the change of the score (Sundararajan et al. 2017).", ("integrated gradients",)),
    Word("Saliency", "The size of the score's gradient at each pixel: where a small change matters most (Simonyan et al. 2014).",
         ("saliency",)),
    Word("corruption error", "Errors on corrupted images, relative to a reference model's (Hendrycks & Dietterich 2019).",
         ("Corruption error",)),
    Word("CKA", "Likeness of what two networks make of the same images: 1 the same up to rotation and scale, 0 unrelated "
         "(Kornblith et al. 2019)."),
    Word("kappa", "Agreement of two models' errors beyond chance: 1 they err on the same images, 0 as if unrelated (Cohen 1960)."),
    Word("double fault", "The share of images that both models get wrong (Giacinto & Roli 2001)."),
    Word("Q", "Yule's: whether two models tend to be correct on the same images: 1 where one is never correct without the "
         "other, 0 unrelated, −1 where they are never both wrong, or never both correct (Yule 1900)."),
    Word("forgotten", "Correct after one epoch of training, wrong after the next (after Toneva et al. 2019, who count training images, not "
         "test images as here)."),
)  # fmt: skip


def explain(name: str) -> str:
    """What a word means. Raises KeyError for one that is not here."""
    return {word.name: word.meaning for word in WORDS}[name]
