"""The distributions and their environments, made once for all packaging tests."""

from __future__ import annotations

import pytest

from tests.packaging.distributions import Distributions, Environment


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Give what a release of this tree would upload."""
    return Distributions.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def plain(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Give an environment with the wheel and what it depends on."""
    return Environment.holding(str(distributions.wheel), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def with_gateway(
    distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """Give an environment with the sdist and its extra for the local gateway."""
    requirement = f"langchain-segmind[gateway] @ {distributions.sdist.as_uri()}"
    return Environment.holding(requirement, tmp_path_factory.mktemp("gateway"))
