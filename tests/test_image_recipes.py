"""What is done to camera frames is drawn as published, and follows from (seed, sample, frame) alone."""

from collections import Counter

import pytest

from rdt_model.image_recipes import BLURS, JITTER, NOISES, STRONGEST_NOISE, Recipe, draw_recipe

FRAMES = 6000
SPREAD = 4  # standard deviations that a share may be off


@pytest.fixture(scope="module")
def recipes() -> list[Recipe]:
    return [draw_recipe(3, sample, frame, 0.5) for sample in range(FRAMES // 6) for frame in range(6)]


def kinds(recipe: Recipe) -> tuple[str, ...]:
    """The recipe's steps as kinds, jitter as one."""
    table = {**dict.fromkeys(NOISES, "noise"), **dict.fromkeys(BLURS, "blur")}
    rest = tuple(table[step.op] for step in recipe if step.op not in JITTER)
    return ("jitter", *rest) if any(step.op in JITTER for step in recipe) else rest


def assert_shares(counted: Counter, expected: dict) -> None:
    total = counted.total()
    assert counted.keys() == expected.keys()
    for name, share in expected.items():
        assert abs(counted[name] / total - share) < SPREAD * (share * (1 - share) / total) ** 0.5, name


def test_half_of_the_frames_are_augmented_in_the_published_proportions(recipes):
    third, half, quarter = 1 / 6, 1 / 2, 1 / 4
    assert_shares(
        Counter(map(kinds, recipes)),
        {
            (): 1 / 2,
            ("jitter",): third,
            ("noise",): third * half,
            ("noise", "blur"): third * quarter,
            ("blur", "noise"): third * quarter,
            ("jitter", "noise"): third * half,
            ("jitter", "noise", "blur"): third * quarter,
            ("jitter", "blur", "noise"): third * quarter,
        },
    )


def test_every_kind_of_noise_is_as_likely_and_every_other_blur_is_of_motion(recipes):
    ops = [step.op for recipe in recipes for step in recipe]
    assert_shares(Counter(op for op in ops if op in NOISES), dict.fromkeys(NOISES, 1 / 3))
    still = dict.fromkeys(BLURS, 1 / 6)
    assert_shares(Counter(op for op in ops if op in BLURS), still | {"motion_blur": 1 / 2})


def test_jitter_is_all_four_factors_in_any_order(recipes):
    orders = Counter(tuple(s.op for s in recipe if s.op in JITTER) for recipe in recipes) - Counter({(): FRAMES})
    assert len(orders) == 24
    assert all(sorted(order) == sorted(JITTER) for order in orders)


@pytest.mark.parametrize("op", [*JITTER, *NOISES, *BLURS])
def test_amounts_fill_their_published_range_evenly(op, recipes):
    low, high = {**JITTER, **dict.fromkeys(NOISES, (0.0, STRONGEST_NOISE)), **BLURS}[op]
    amounts = [(step.amount - low) / (high - low) for recipe in recipes for step in recipe if step.op == op]
    assert_shares(Counter(int(amount * 4) for amount in amounts), dict.fromkeys(range(4), 1 / 4))


def test_no_two_frames_have_the_same_noise(recipes):
    seeds = [step.seed for recipe in recipes for step in recipe if step.op in NOISES]
    assert len(set(seeds)) == len(seeds) > 1000


def test_another_share_changes_no_recipe(recipes):
    more = [draw_recipe(3, sample, frame, 1.0) for sample in range(40) for frame in range(6)]
    chosen = [(one, all_of) for one, all_of in zip(recipes, more, strict=False) if one]
    assert len(chosen) > 80
    assert all(one == all_of for one, all_of in chosen)
    assert all(more)


def test_a_share_of_zero_leaves_every_frame():
    assert not any(draw_recipe(0, sample, 0, 0.0) for sample in range(100))


def test_recipes_never_change_between_versions():
    assert [(step.op, round(step.amount, 4), step.seed) for step in draw_recipe(0, 0, 1, 1.0)] == [
        ("contrast", 0.9878, 0),
        ("saturation", 0.8526, 0),
        ("brightness", 1.2172, 0),
        ("hue", -0.0213, 0),
        ("motion_blur", 18.9014, 0),
        ("poisson_noise", 0.006, 5819947621443073709),
    ]
