"""Content-addressed values: recipes, and the store that forces them."""

from netfl.store.disk import Disk, default_folder
from netfl.store.recipes import FactForm, Function, Recipe, TensorForm, recipe
from netfl.store.store import MissingValueError, Store

__all__ = ["Disk", "FactForm", "Function", "MissingValueError", "Recipe", "Store", "TensorForm", "default_folder", "recipe"]
