"""Models of other programs as bundles: results folders of nnU-Net and its forks, bare weights, our own runs.

Nothing here trusts a file: pickles are read by torch's restricted loader alone, after a look at what they would do, in
a process of its own.
"""
