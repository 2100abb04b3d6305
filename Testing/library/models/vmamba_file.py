"""A file laid out as VMamba-Tiny's first format, at widths that train within seconds, and networks that it fits."""

import torch

DIMS, DEPTHS = [4, 8, 16, 32], [1, 1, 2, 1]
NETWORKS = {
    "mamba_unet": {"dims": DIMS, "depths": [1, 1, 1, 1]},
    "swin_umamba": {
        "feature_sizes": [4, *DIMS],
        "hidden_size": 32,
        "encoder_dims": DIMS,
        "encoder_depths": DEPTHS,
    },
    "swin_umamba_d": {"dims": DIMS, "encoder_depths": DEPTHS},
}


def an_imagenet_file():
    """Noise by the names of VMamba's first format, widths 4 to 32; written by hand, not by the map under test."""
    shapes = {"patch_embed.proj.weight": (4, 3, 4, 4), "patch_embed.proj.bias": (4,)}
    shapes |= {"patch_embed.norm.weight": (4,), "patch_embed.norm.bias": (4,)}
    for stage, (dim, depth) in enumerate(zip(DIMS, DEPTHS, strict=True)):
        inner, rank = 2 * dim, -(-dim // 16)
        for block in range(depth):
            prefix = f"layers.{stage}.blocks.{block}."
            shapes |= {f"{prefix}ln_1.weight": (dim,), f"{prefix}ln_1.bias": (dim,)}
            prefix += "self_attention."
            shapes |= {
                f"{prefix}x_proj_weight": (4, rank + 32, inner),
                f"{prefix}dt_projs_weight": (4, inner, rank),
                f"{prefix}dt_projs_bias": (4, inner),
                f"{prefix}A_logs": (4 * inner, 16),
                f"{prefix}Ds": (4 * inner,),
                f"{prefix}in_proj.weight": (2 * inner, dim),
                f"{prefix}conv2d.weight": (inner, 1, 3, 3),
                f"{prefix}conv2d.bias": (inner,),
                f"{prefix}out_norm.weight": (inner,),
                f"{prefix}out_norm.bias": (inner,),
                f"{prefix}out_proj.weight": (dim, inner),
            }
        if stage < 3:
            prefix = f"layers.{stage}.downsample."
            shapes |= {f"{prefix}reduction.weight": (2 * dim, 4 * dim)}
            shapes |= {f"{prefix}norm.weight": (4 * dim,), f"{prefix}norm.bias": (4 * dim,)}
    shapes |= {"norm.weight": (32,), "norm.bias": (32,), "head.weight": (10, 32), "head.bias": (10,)}
    torch.manual_seed(1)
    return {name: torch.randn(shape) for name, shape in shapes.items()}
