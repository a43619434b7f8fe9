import sys, time, collections
from .history import History
from .words import Narrator
from .stand_ins import quiet_logs
import traceback
first=int(sys.argv[1]); n=int(sys.argv[2])
with quiet_logs():
    if n==1:
        h=History(first, Narrator(print))
        print(h.plan)
        print(h.run())
        if hasattr(h,'error'): traceback.print_exception(h.error)
    else:
        t=time.process_time(); bad=collections.Counter(); steps=0;vs=0;rounds=0; ex={}
        for s in range(first, first+n):
            h=History(s); o=h.run()
            steps+=o.steps; vs+=o.virtual_s; rounds+=o.rounds
            if o.violation:
                import re
                k=re.sub(r'\d+','N',o.violation)[:90]
                bad[k]+=1; ex.setdefault(k,[]).append(s)
        dt=time.process_time()-t
        print(f"{n/dt:.0f}/s steps {steps/n:.0f} virtual {vs/n:.1f} rounds {rounds/n:.2f}")
        for k,c in bad.most_common(20): print(c,k,ex[k][:6])
