import warnings

# NNI 3.0 warns of what torch has had since; nothing of it is used here.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"nni\.nas")
