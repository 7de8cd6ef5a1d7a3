import logging
import warnings

import pytorch_lightning  # noqa: F401  it sets the level of its log when it is imported

import model_space  # noqa: F401  before NNI is imported: what it warns of

# Lightning tells of the devices that it finds and recommends products; its errors are still heard.
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
logging.getLogger("nni.nas").setLevel(logging.ERROR)
# A run is resumed in the folder that it began in, one process loads what is in memory anyway, and Lightning asks torch
# for something by its old name.
warnings.filterwarnings("ignore", module=r"pytorch_lightning")
warnings.filterwarnings("ignore", message=r".*LeafSpec.*is deprecated")
