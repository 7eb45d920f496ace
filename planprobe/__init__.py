"""planprobe: does a trained recurrent agent plan inside?

Everything below can be imported from here; it is found where it lives when it is first asked for, so that
`import planprobe` costs nothing. The rooms, and who may import whom: ARCHITECTURE.md.
"""

# pyright: reportUnsupportedDunderAll=false
# (names of `__all__` are not defined here, but found by `__getattr__`)

from __future__ import annotations

from typing import Any

__version__ = "0.7.0"

__all__ = [
    "BUDGETS", "CONCEPTS", "FAMILIES", "FIGURES", "Address", "Agent", "Budget", "Cache", "Concept", "Condition",
    "Edit", "Effect", "Env", "Evidence", "HistoryPairs", "Inputs", "LevelPairs", "LevelSet", "NetRecipe",
    "OpenedPolicy", "Organism", "Patch", "PlanprobeError", "Policy", "ProbeTable", "Rates", "Recipe", "Results",
    "Rollout", "StateConcept", "TaskRecipe", "Trainer", "TrainingRecipe", "TrialCondition", "TrialRollout", "Verdict",
    "__version__", "ablate", "align_channels", "calibrate", "capture", "check_erasure", "clone_policy",
    "compute_metrics", "compute_trial_scores", "concept_target", "distance_maps", "draw_figures", "evaluate",
    "far_distance", "find_score", "find_trial_score", "fit_erasure", "fit_probes", "fit_subspace", "generate_mazes",
    "generate_sokoban", "get_budget", "get_concept", "headline", "interchange", "intervene", "judge",
    "level_set_names", "level_to_text", "list_agents", "load_agent", "load_figure", "load_rates", "load_recipe",
    "load_results", "make_env", "make_net", "make_organism", "make_recipe", "make_trial_env", "named_levels",
    "observation_geometry", "observation_planner", "observe_pairs", "open_activations", "open_policy",
    "optimal_action_mask", "optimal_actions", "patch_from", "patch_grid", "patch_pairs", "play", "play_levels",
    "play_reference", "play_trials", "probe_table", "probe_tables", "psi_pairs", "publish_agent", "read_levels",
    "rebuild_figures", "route_patches", "save_agent", "score_first_moves", "score_levels", "score_trials",
    "screen_patches", "select_sites", "solve", "solve_levels", "solve_rate", "steer", "study", "task_levels",
    "task_pairs", "trial_class", "two_route_mazes", "two_route_sokoban", "verify_agent", "write_activations",
    "write_levels", "write_report",
]  # fmt: skip

_NAMES_BY_MODULE = {
    "core.errors": ("PlanprobeError",),
    "core.levels": ("LevelSet",),
    "core.pairs": ("HistoryPairs", "LevelPairs"),
    "core.play": ("Rollout", "play", "play_levels"),
    "core.play_trials": ("TrialRollout", "play_trials"),
    "core.protocols": ("Env", "Policy"),
    "core.records": ("Effect", "Evidence", "Verdict"),
    "subjects.agent": ("Agent",),
    "subjects.envs.catalog": ("far_distance", "level_set_names", "make_env", "named_levels", "task_levels"),
    "subjects.envs.distance": ("distance_maps", "optimal_action_mask"),
    "subjects.envs.generate_maze": ("generate_mazes",),
    "subjects.envs.generate_sokoban": ("generate_sokoban",),
    "subjects.envs.geometry": ("observation_geometry",),
    "subjects.envs.level_text": ("level_to_text", "read_levels", "write_levels"),
    "subjects.envs.pairs": ("task_pairs",),
    "subjects.envs.plans": ("observation_planner",),
    "subjects.envs.solver": ("optimal_actions", "solve", "solve_levels"),
    "subjects.envs.stimuli": ("two_route_mazes", "two_route_sokoban"),
    "subjects.envs.trial_catalog": ("make_trial_env", "trial_class"),
    "subjects.envs.trial_inputs": ("Inputs",),
    "subjects.nets": ("make_net",),
    "subjects.organisms": ("FAMILIES", "Organism", "make_organism"),
    "subjects.psi_pairs.catalog": ("psi_pairs",),
    "subjects.recipe": ("NetRecipe", "Recipe", "TaskRecipe", "TrainingRecipe", "load_recipe", "make_recipe"),
    "subjects.references.play": ("play_reference",),
    "subjects.scorecard": ("Condition", "find_score", "score_first_moves", "score_levels"),
    "subjects.training.evaluate": ("evaluate", "solve_rate"),
    "subjects.training.imitate": ("clone_policy",),
    "subjects.training.train": ("Trainer",),
    "subjects.trial_scores": ("TrialCondition", "compute_trial_scores", "find_trial_score", "score_trials"),
    "subjects.zoo": ("compute_metrics", "list_agents", "load_agent", "publish_agent", "save_agent", "verify_agent"),
    "instruments.activation_store": ("open_activations", "write_activations"),
    "instruments.alignment": ("align_channels",),
    "instruments.patching.attribution": ("screen_patches",),
    "instruments.concepts.catalog": ("CONCEPTS", "Concept", "StateConcept", "get_concept"),
    "instruments.erasure.erasure": ("check_erasure", "fit_erasure"),
    "instruments.erasure.targets": ("concept_target",),
    "instruments.hooks": (
        "Address", "Cache", "Edit", "OpenedPolicy", "ablate", "capture", "intervene", "open_policy", "patch_from",
        "select_sites", "steer",
    ),
    "instruments.patching.patches": ("Patch", "patch_grid", "route_patches"),
    "instruments.patching.patching": ("observe_pairs", "patch_pairs"),
    "instruments.probes.table": ("ProbeTable", "probe_table", "probe_tables"),
    "instruments.probes.linear_probes": ("fit_probes",),
    "instruments.erasure.subspaces": ("fit_subspace", "interchange"),
    "verdict.budgets": ("BUDGETS", "Budget", "get_budget"),
    "verdict.calibrate": ("calibrate",),
    "verdict.figures": ("FIGURES", "draw_figures", "load_figure", "rebuild_figures"),
    "verdict.judge": ("headline", "judge"),
    "verdict.rates": ("Rates", "load_rates"),
    "verdict.report": ("write_report",),
    "verdict.results": ("Results", "load_results"),
    "verdict.study": ("study",),
}  # fmt: skip
_HOMES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'planprobe' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(f"planprobe.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
