// A place for a file: dropped or chosen, it is sent to the server's API. What comes of it is told by the event
// `champ-sent`, whose detail has the upload's `id`, or the `error` that the API gave.
customElements.define('champ-upload', class extends HTMLElement {
  connectedCallback() {
    const label = this.getAttribute('label');
    const input = document.createElement('input');
    Object.assign(input, {type: 'file', hidden: true});
    const button = document.createElement('button');
    Object.assign(button, {type: 'button', textContent: label});
    const bar = document.createElement('progress');
    Object.assign(bar, {hidden: true, max: 1});
    bar.setAttribute('aria-label', 'Progress of the upload');
    button.addEventListener('click', () => input.click());
    input.addEventListener('change', () => {
      if (input.files.length) this.send(input.files[0], button, bar);
      input.value = '';
    });
    this.addEventListener('dragover', event => { event.preventDefault(); this.classList.add('over'); });
    this.addEventListener('dragleave', () => this.classList.remove('over'));
    this.addEventListener('drop', event => {
      event.preventDefault();
      this.classList.remove('over');
      if (event.dataTransfer.files.length) this.send(event.dataTransfer.files[0], button, bar);
    });
    this.replaceChildren(button, bar, input);
  }

  send(file, button, bar) {
    const tell = (id, error) => {
      button.disabled = false;
      bar.hidden = true;
      this.dispatchEvent(new CustomEvent('champ-sent', {bubbles: true, detail: {id, error}}));
    };
    if (file.size > Number(this.getAttribute('limit'))) {
      const limit = this.getAttribute('limit-text');
      tell(null, `${file.name}: is larger than the ${limit} that this server takes; make it smaller`);
      return;
    }
    const request = new XMLHttpRequest();
    request.open('POST', `${this.getAttribute('to')}?name=${encodeURIComponent(file.name)}`);
    request.responseType = 'json';
    request.upload.addEventListener('progress', event => { bar.value = event.loaded / event.total; });
    request.addEventListener('load', () => {
      const answer = request.response || {};
      if (request.status === 201) tell(answer.id, null);
      else tell(null, answer.error || `${file.name}: the server answered ${request.status}; send the file again`);
    });
    request.addEventListener('error', () => tell(null, `${file.name}: could not be sent; send the file again`));
    button.disabled = true;
    bar.hidden = false;
    bar.value = 0;
    request.send(file);
  }
});

// The player of a result. The comparison video holds the picture, the maps and the animation side by side; every panel
// is drawn on a canvas of its own from the same decoded frame, so that they cannot come apart.
customElements.define('champ-player', class extends HTMLElement {
  connectedCallback() {
    const names = JSON.parse(this.getAttribute('panels') || '[]');
    const fps = Number(this.getAttribute('fps')) || 24;
    const plain = this.querySelector('video');
    const video = this.video = document.createElement('video');
    Object.assign(video, {muted: true, loop: true, playsInline: true, preload: 'auto'});
    const grid = document.createElement('div');
    grid.className = 'panels';
    const canvases = names.map((name, index) => {
      const figure = document.createElement('figure');
      const canvas = document.createElement('canvas');
      const caption = document.createElement('figcaption');
      caption.textContent = name;
      canvas.setAttribute('role', 'img');
      canvas.setAttribute('aria-label', name);
      if (index === names.length - 1) figure.className = 'main';
      figure.append(canvas, caption);
      return canvas;
    });
    // The animation comes first for the eye; in the file it is the last.
    grid.append(canvases[canvases.length - 1].parentNode, ...canvases.slice(0, -1).map(one => one.parentNode));
    const draw = () => {
      const width = video.videoWidth / canvases.length;
      if (!width) return;
      canvases.forEach((canvas, index) => {
        if (canvas.width !== Math.round(width)) canvas.width = Math.round(width);
        if (canvas.height !== video.videoHeight) canvas.height = video.videoHeight;
        canvas.getContext('2d').drawImage(
          video, index * width, 0, width, video.videoHeight, 0, 0, canvas.width, canvas.height);
      });
      const frame = Math.round(video.currentTime * fps - 0.25);
      seek.value = Math.max(frame, 0);
      const last = Math.max(Math.round((video.duration || 0) * fps) - 1, 1);
      seek.max = last;
      place.textContent = `${Math.min(Math.max(frame, 0), last)} of ${last}`;
    };
    const button = (text, label, press) => {
      const made = document.createElement('button');
      made.type = 'button';
      made.textContent = text;
      made.setAttribute('aria-label', label);
      made.addEventListener('click', press);
      return made;
    };
    const step = frames => {
      video.pause();
      const last = Math.max(video.duration - 0.5 / fps, 0);
      video.currentTime = Math.min(Math.max(video.currentTime + frames / fps, 0), last);
    };
    const play = button('▶', 'Play', () => video.paused ? video.play() : video.pause());
    const told = () => {
      play.textContent = video.paused ? '▶' : '❚❚';
      play.setAttribute('aria-label', video.paused ? 'Play' : 'Pause');
    };
    const seek = document.createElement('input');
    Object.assign(seek, {type: 'range', min: 0, max: 1, step: 1, value: 0});
    seek.setAttribute('aria-label', 'Frame of the animation');
    seek.addEventListener('input', () => {
      video.pause();
      video.currentTime = (Number(seek.value) + 0.5) / fps;
    });
    const place = document.createElement('span');
    place.className = 'place';
    const speed = document.createElement('select');
    speed.setAttribute('aria-label', 'Speed');
    for (const rate of [0.25, 0.5, 1, 2]) speed.add(new Option(`${rate}×`, rate, rate === 1, rate === 1));
    speed.addEventListener('change', () => { video.playbackRate = Number(speed.value); });
    const bar = document.createElement('div');
    bar.className = 'bar';
    bar.append(play, button('‹', 'One frame back', () => step(-1)), button('›', 'One frame on', () => step(1)),
      seek, place, speed);
    video.addEventListener('play', told);
    video.addEventListener('pause', told);
    for (const event of ['loadeddata', 'seeked', 'timeupdate']) video.addEventListener(event, draw);
    if (video.requestVideoFrameCallback) {
      const next = () => { draw(); video.requestVideoFrameCallback(next); };
      video.requestVideoFrameCallback(next);
    }
    // A browser that cannot play the comparison keeps the plain player of the animation.
    video.addEventListener('error', () => this.replaceChildren(plain));
    this.replaceChildren(grid, bar);
    video.src = this.getAttribute('comparison');
    if (!matchMedia('(prefers-reduced-motion: reduce)').matches) video.play().catch(() => {});
  }

  disconnectedCallback() {
    this.video.pause();
    this.video.removeAttribute('src');
    this.video.load();
  }
});
