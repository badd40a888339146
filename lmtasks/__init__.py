"""lmtasks: which model, adapted how, running on what, is best for my tasks on my machine?"""

__version__ = "0.1.0"
