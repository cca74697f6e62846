"""The lab's machine: it keeps the bytes and the catalog, and decides who may."""
