"""Examples at the end of the help texts."""

INVERT = """\
Examples:
  renoise invert apple.png --prompt "a photo of a red apple"
  renoise invert cat.jpg --prompt "a cat" --model sdxl-turbo -o cat.safetensors
  renoise invert photos -o inversions
  renoise invert - --prompt "a red apple" -o - < a.png > a.safetensors"""

RECONSTRUCT = """\
Examples:
  renoise reconstruct apple.safetensors -o again.png
  renoise reconstruct inversions -o pictures"""

EDIT = """\
Examples:
  renoise edit apple.png --prompt "a photo of a red apple" \\
      --to "a photo of a yellow lemon" -o lemon.png
  renoise edit apple.safetensors --to "a photo of a plum" --strip strip.png
  renoise edit photos --to "a photo of a plum" -o edits"""

SWEEP = """\
Example:
  renoise sweep apple.png --prompt "a photo of a red apple" \\
      --to "a photo of a yellow lemon" --rows guidance=1,1.5,2 \\
      --columns editability=0,0.5,1"""

INFO = """\
Examples:
  renoise info apple.safetensors
  renoise info apple.safetensors --format json"""

PRESETS = """\
Examples:
  renoise presets
  renoise presets --format json"""

DEMO = """\
Examples:
  renoise demo
  renoise demo cat.jpg --prompt "a cat on a sofa" --model sdxl-turbo"""

BENCH_RECONSTRUCTION = """\
Example:
  renoise bench reconstruction data --photos 16 --only default"""

BENCH_FEW_STEPS = """\
Examples:
  renoise bench few-steps data --model orchard-turbo
  renoise bench few-steps data --model orchard-lcm --sampler DDIMScheduler"""

BENCH_TOLERANCE = """\
Example:
  renoise bench tolerance data --tolerance 0.01 --tolerance 0.005"""

BENCH_REDRAWING = """\
Example:
  renoise bench redrawing data --iterations 0 --iterations 4"""

BENCH_EDIT = """\
Examples:
  renoise bench edit data --tasks 8 --only guidance
  renoise bench edit data --tasks 12 --sheets 48
  renoise bench edit PIE-Bench_v1 --model sdxl-turbo -o pie-turbo"""

BENCH_EYES = """\
Example:
  renoise bench eyes renoise-bench/sheets answers-1.csv answers-2.csv"""
