"""Will it fit, how long will it take, and what would help? Arithmetic on paper before a cluster is rented.

    hardware     GPUs, links, networks
    request      what is to be done, and the layout: how it is spread over ranks
    weights      parameters of one rank, exactly
    memory       bytes of one rank in every phase of a step
    traffic      bytes of one rank over every link, per step
    timing       seconds of a step, with stated efficiencies
    plan         all of it together, the verdict, and what limits
    search       the fastest layout that fits; the smallest change that makes a plan fit
    page         the plan as a report

Nothing here imports torch. `train.planned` builds the same model on paper tensors with the real parallel code, and
measures what `memory` predicts.
"""
