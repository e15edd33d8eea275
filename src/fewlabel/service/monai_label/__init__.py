"""A run over the REST protocol of MONAI Label, for the viewers that speak it: 3D Slicer and OHIF by their plug-ins.

What the plug-ins call, and what is answered here:

========================================= ====================================================================
``GET /info/``                            classes, the model, strategies, the trainer and its settings, counts
``GET /auth/``, ``POST /auth/token``      Slicer's login: any name, and the token as the password
``POST /activelearning/{strategy}``       the scan to annotate next, as ``suggest`` chooses it
``GET /datastore/``, ``/datastore/image`` the scans of the run, and one of them
``PUT /datastore/image``, ``/session/``   a scan of one's own, to be segmented
``POST /infer/{model}``                   ``predict``: form fields ``params``, ``file`` and ``label``
``PUT /datastore/label``                  a mask, into ``RUN/annotations``, where ``learn`` takes it from
``POST``, ``GET``, ``DELETE /train/``     ``learn`` in a process of its own: begin, status, stop
``GET /logs/``                            what it printed
========================================= ====================================================================

Masks hold the numbers that ``/info/`` gives the classes, from 1 on, whatever the values of the data set are: Slicer
numbers segments in the order of their names, and OHIF knows no other. 255 is what nobody looked at.

The protocol is that of monailabel 0.8.5: its ``endpoints`` and ``client``, the Slicer module and OHIF's extension.
"""
