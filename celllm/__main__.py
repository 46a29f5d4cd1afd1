import sys

from celllm.cli import main

sys.exit(main())
