"""Colours of plots."""

# What colour-blind people can tell apart, too (Okabe and Ito).
OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "bluish green": "#009E73",
    "vermillion": "#D55E00",
    "blue": "#0072B2",
    "reddish purple": "#CC79A7",
    "yellow": "#F0E442",
}
