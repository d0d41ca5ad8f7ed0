"""Writes pictures with a workflow as ComfyUI's nodes do, with the library that they use.

    pictures.py FOLDER WORKFLOW PROMPT

Each line of output is the path of a picture. PROMPT is JSON without addresses.
"""

import sys
from pathlib import Path

from PIL import Image, PngImagePlugin, features

folder, workflow, prompt = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
folder.mkdir(parents=True, exist_ok=True)
image = Image.effect_noise((640, 480), 90).convert("RGB")


def save(name, **options):
    path = folder / name
    image.save(path, **options)
    print(path)


def png(name, add):
    info = PngImagePlugin.PngInfo()
    add(info, "prompt", prompt)
    add(info, "workflow", workflow)
    save(name, format="PNG", pnginfo=info)


png("text.picture", lambda info, key, text: info.add_text(key, text))
png("packed.picture", lambda info, key, text: info.add_text(key, text, zip=True))
png("international.picture", lambda info, key, text: info.add_itxt(key, text, zip=True))

# SaveAnimatedWEBP: the camera's model is the prompt, and its maker is the workflow.
exif = image.getexif()
exif[0x0110] = "prompt:" + prompt
exif[0x010F] = "workflow:" + workflow
save("exif.webp", format="WEBP", exif=exif)
save("exif.jpg", format="JPEG", exif=exif)
if features.check("avif"):
    save("exif.avif", format="AVIF", exif=exif)
# Nodes that write a comment: an object with both.
comment = Image.Exif()
comment.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + ('{"prompt": %s, "workflow": %s}' % (prompt, workflow)).encode()
save("comment.jpg", format="JPEG", exif=comment)
