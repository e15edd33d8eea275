"""Runs and scans over HTTP, for a person at this machine: what a browser or a viewer may ask, and how it is kept shut.

A request takes this path, and each step may end it:

1. **Loopback.** Only programs of this machine reach the socket (:mod:`fewlabel.service.loopback_server`).
2. **Headers** (:mod:`fewlabel.service.protection`). Every response, refusals too, gets a content security policy that
   lets a page load nothing from elsewhere, and headers against framing, sniffing and caching. None of them opens CORS:
   pages of other origins read nothing.
3. **Host.** It must name this machine. A page of another name that was pointed at 127.0.0.1 (DNS rebinding) gets 400.
4. **Token** (:mod:`fewlabel.service.token_check`). It comes in the link that the terminal shows, and from then on in a
   cookie; or in a header, from programs. Without it 401. What the page of another origin has the browser send is
   refused with 403, cookie or not.
5. **Size.** A body over the limit ends with 413, whether or not it says how long it is.
6. The routes of the application.
"""
