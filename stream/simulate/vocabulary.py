"""Words that the shop's catalogue is written with: categories, their things, and what one says."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BRANDS", "CATEGORIES", "COLOURS", "OCCASIONS", "QUALIFIERS", "Category"]


class Category(NamedTuple):
    """A category: what it sells, how that is praised, what it is made of, what it costs."""

    name: str
    things: tuple[str, ...]
    praise: tuple[str, ...]
    materials: tuple[str, ...]
    price: float


def _category(name: str, price: float, things: str, praise: str, materials: str) -> Category:
    words = [tuple(part.split(", ")) for part in (things, praise, materials)]
    return Category(name, words[0], words[1], words[2], price)


CATEGORIES = (
    _category(
        "kitchen",
        35.0,
        "saucepan, chef's knife, kettle, mixing bowl, espresso maker, cutting board, grater, wok",
        "dishwasher-safe, sharp, heats evenly, easy to clean, non-stick",
        "steel, cast iron, oak, ceramic, silicone",
    ),
    _category(
        "garden",
        28.0,
        "watering can, pruning shears, planter, garden hose, spade, bird feeder, seed mix, trellis",
        "weatherproof, sturdy, rust-free, light in the hand, blooms early",
        "zinc, terracotta, bamboo, hardwood, recycled plastic",
    ),
    _category(
        "books",
        14.0,
        "novel, atlas, cookbook, biography, poetry volume, crime story, travel guide, picture book",
        "gripping, beautifully illustrated, moving, hard to put down, well researched",
        "hardcover, paperback, linen, thread-bound, large print",
    ),
    _category(
        "toys",
        22.0,
        "puzzle, building set, doll, board game, kite, toy train, marble run, plush bear",
        "safe for toddlers, fun for the family, teaches patience, award-winning, colourful",
        "beech, felt, cardboard, cotton, plastic",
    ),
    _category(
        "sports",
        55.0,
        "running shoe, yoga mat, tennis racket, dumbbell, football, bike helmet, rope, goggles",
        "breathable, grips well, light, cushioned, tournament-ready",
        "mesh, rubber, carbon, neoprene, nylon",
    ),
    _category(
        "beauty",
        19.0,
        "hand cream, shampoo, lip balm, face mask, perfume, soap, hair oil, sun lotion",
        "fragrance-free, soothing, kind to skin, long-lasting, vegan",
        "shea butter, aloe, almond oil, clay, lavender",
    ),
    _category(
        "computing",
        120.0,
        "keyboard, monitor, mouse, webcam, laptop stand, external drive, router, headset",
        "silent, wireless, plug and play, fast, ergonomic",
        "aluminium, glass, recycled plastic, magnesium, fabric",
    ),
    _category(
        "clothing",
        42.0,
        "rain jacket, jumper, jeans, scarf, dress, T-shirt, winter boots, belt",
        "warm, true to size, machine-washable, timeless, stretchy",
        "merino, denim, linen, organic cotton, leather",
    ),
    _category(
        "music",
        65.0,
        "ukulele, drumsticks, metronome, guitar strings, keyboard stand, harmonica, tuner, flute",
        "rich in tone, keeps its tuning, easy to play, stage-ready, handmade",
        "maple, spruce, nickel, bronze, mahogany",
    ),
    _category(
        "pets",
        17.0,
        "dog lead, cat tree, chew toy, aquarium filter, hay rack, feeding bowl, pet bed, scratcher",
        "bite-proof, washable, quiet, grain-free, loved by cats",
        "sisal, hemp, steel, plush, birch",
    ),
    _category(
        "tools",
        48.0,
        "cordless drill, socket set, spirit level, hand saw, tape measure, pliers, clamp, sander",
        "hardened, precise, powerful, shockproof, made to last",
        "chrome vanadium, steel, fibreglass, rubber, brass",
    ),
    _category(
        "travel",
        70.0,
        "suitcase, rucksack, neck pillow, travel mug, packing cubes, tent, quilt, head torch",
        "cabin-sized, waterproof, packs small, lockable, feather-light",
        "ripstop, polycarbonate, down, canvas, titanium",
    ),
)

QUALIFIERS = (
    "classic",
    "compact",
    "large",
    "professional",
    "everyday",
    "foldable",
    "premium",
    "small",
    "outdoor",
    "vintage",
    "modern",
    "starter",
)

BRANDS = (
    "Alder & Sons",
    "Brisk",
    "Café Nord",
    "Dovetail",
    "Élan",
    "Fjord",
    "Greyhen",
    "Halyard",
    "Ibex",
    "Juniper",
    "Kestrel",
    "Løvsten",
)

COLOURS = ("black", "white", "red", "navy", "green", "grey", "mustard", "teal")

OCCASIONS = (
    "for every day",
    "as a present",
    "for beginners",
    "for small flats",
    "for the whole family",
    "for demanding users",
)
