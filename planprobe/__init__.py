"""planprobe: does a trained recurrent agent plan inside?"""

__version__ = "0.1.0"
