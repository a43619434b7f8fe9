import sys, tempfile, json, time, os
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, str(Path(__file__).parents[1]))
from gallery.kinds import KINDS
from gallery.kind import SETTINGS
from gallery import stage, judge

def one(job):
    name, setting, launcher, out = job
    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as folder:
        t=time.time()
        try:
            screens = stage.run(kind, setting, Path(folder).resolve()/'work', launcher)
        except Exception as e:
            return name, setting, [f"stage: {e!r}"]
        d=time.time()-t
    text = "\n=======\n".join(f"exit code {s.code}\n{s.text}" for s in screens)
    (out/f"{name}.{setting}".replace(' ','_').replace("'",'')).write_text(text+f"\n[{d:.1f}s]\n")
    return name, setting, judge.faults(kind, setting, screens)

launcher=[sys.executable,'-m','elrun']
names = sys.argv[2:] or [n for n in KINDS if not stage.why_not(KINDS[n])]
out=Path(sys.argv[1]); out.mkdir(exist_ok=True)
sets=os.environ.get('SETS',' '.join(SETTINGS)).split()
if os.environ.get('TORCHRUN'): launcher=[sys.executable,'-m','torch.distributed.run']
jobs=[(n,s,launcher,out) for n in names for s in KINDS[n].settings if s in sets]
with ThreadPoolExecutor(2) as pool: results=list(pool.map(one,jobs))
from collections import Counter
right,total=Counter(),Counter()
for n,s,f in results:
    total[s]+=1; right[s]+=not f
    if f: print(f"{n:25} {s:9}", '; '.join(f))
for s in sets: print(s, right[s], '/', total[s])
