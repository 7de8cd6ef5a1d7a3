"""The functions of which the operations are made, each by hand and in its plain form. See ``by_hand.py``."""
