"""Segment all images of a folder with Slicer, without its window:

    Slicer --no-main-window --python-script segment_folder.py IMAGES OUTPUT [MODEL]

IMAGES is a folder, a pattern in quotation marks, or a .csv file with a column for each channel of the model. OUTPUT is
a folder for the labels, report.json and report.csv. Started again, it goes on where it was stopped. The exit code is 0
when all cases are done.
"""

import sys

import slicer


def main(source: str, outputFolder: str, model: str = "hippocampus-t1") -> int:
    logic = slicer.util.getModuleLogic("MambaSegment")
    report = logic.segmentFolder(
        source,
        outputFolder,
        model,
        onProgress=lambda progress: print(f"{progress.done} of {progress.total} cases"),
        onFailure=lambda outcome: print(f"{outcome.case} failed: {outcome.message}"),
    )
    facts = report.to_json()
    print(f"{facts['done']} done, {facts['failed']} failed; see report.csv in {outputFolder}")
    return 0 if facts["failed"] == 0 else 1


if __name__ == "__main__":
    code = 2
    try:
        code = main(*sys.argv[1:])
    except Exception as problem:
        print(f"{type(problem).__name__}: {problem}")
    finally:
        slicer.util.exit(code)  # without a window nobody else would end Slicer
