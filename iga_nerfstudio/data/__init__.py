"""Reading and writing: pictures, sounds and tables, meshes and voxels."""
