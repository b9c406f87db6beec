"""torchrun --nproc-per-node N -m superscaler.runtime DIR."""

from superscaler.runtime.launch import main

if __name__ == "__main__":
    main()
