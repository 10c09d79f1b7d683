"""Which jobs of a region need the same builder, where builders are shared."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ebspub.config import Config, select

Configs = Callable[..., Config]
PARAVIRTUAL = """
[builds.registration]
virtualization = "paravirtual"
"""
SHARED = ("[builder]", "[builder]\nshared = true")
BOTH = ('["amd64"]', '["amd64", "arm64"]')


@pytest.mark.parametrize(
    ("end", "images"),
    [("", 2), ('method = "disk"', 1), (PARAVIRTUAL, 1)],
    ids=["boot loader by chroot", "disk", "bare file system"],
)
def test_what_any_arch_can_do_has_one_builder_a_region_where_it_is_shared(
    config: Configs, end: str, images: int
) -> None:
    kernels = "\n".join(f"kernel_ids.{arch} = 'aki-0a1b2c3d'" for arch in ("amd64", "i386"))
    method = ('label = "release"', f'label = "release"\n{end}' if end != PARAVIRTUAL else 'label = "release"')
    arches = ('["amd64"]', '["amd64", "i386"]') if end == PARAVIRTUAL else BOTH
    own = ('images.arm64 = "ssm:/images/arm64"', 'images.arm64 = "ssm:/images/arm64"\nimages.i386 = "ami-00000386"')
    regions = "[regions.us-east-1]\n" + kernels
    cfg = config(SHARED, method, arches, own, regions=regions, end=end if end == PARAVIRTUAL else "")
    found = {spec.builder for spec in select(cfg)}
    assert len(found) == images
    assert all(builder.shared for builder in found)
    assert "ami-0a1b2c3d4e5f60718" in {builder.image for builder in found}


def test_a_builder_that_is_not_shared_is_of_the_images_own_arch(config: Configs) -> None:
    cfg = config(BOTH, ('label = "release"', 'label = "release"\nmethod = "disk"'))
    assert {spec.builder.image for spec in select(cfg)} == {"ami-0a1b2c3d4e5f60718", "ssm:/images/arm64"}
    assert not any(spec.builder.shared for spec in select(cfg))


def test_a_shared_builder_is_of_the_first_arch_that_a_region_has_an_image_for(config: Configs) -> None:
    only_arm = ('images.amd64 = "ami-0a1b2c3d4e5f60718"\n', "")
    cfg = config(
        SHARED, only_arm, ('["amd64"]', '["arm64"]'), ('label = "release"', 'label = "daily"\nmethod = "disk"')
    )
    assert {(spec.builder.image, spec.builder.instance_types) for spec in select(cfg)} == {
        ("ssm:/images/arm64", ("t4g.medium",))
    }
